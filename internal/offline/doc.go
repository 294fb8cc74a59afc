// Package offline reads the history of feature views: Parquet files in folders and in S3 buckets.
//
// A Store resolves paths and holds what is shared: the S3 client and a bounded cache of footers. A Table is the history of
// one feature view: its files, and in them the row groups (Fragment) that may hold rows of a time range. A
// Fragment streams keys and times, and fetches feature values of the rows that are asked for. Rows reads files that belong to no view.
// Store.Quarantine puts rows of a file aside, where no source reads them.
//
// What is not needed is not read: files and row groups by their statistics, pages by the page index (pageindex.go). Values of the common
// encodings are taken straight from their page (flat.go, direct.go), all others are decoded by arrow-go. From S3, the parts of a row group that are needed
// are fetched in few requests and ahead of the decoder (fetch.go): a reader of a row group holds and has under way at most 16 MiB, and
// beyond that only what the pages are in that it decodes at the time; of a local file 256 KiB and the page.
//
// Files are taken for hostile. Footers and page headers are checked by this package before a decoder sees them, pages are
// decompressed here under a cap, what is read in place is checked against the page's length, and arrow-go's column readers, which decode
// the other values, run under recover: a file that is truncated or damaged gives an error of kind fault.Corrupt that names the file, the row
// group and the column.
package offline

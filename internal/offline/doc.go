// Package offline reads the history of feature views: Parquet files in folders and in S3 buckets.
//
// A Store resolves paths and holds what is shared: the S3 client and a bounded cache of footers. A Table is the history of
// one feature view: its files, and in them the row groups (Fragment) that may hold rows of a time range. A
// Fragment streams keys and times, and fetches feature values of the rows that are asked for. Rows reads files that belong to no view.
//
// Files are taken for hostile. Footers and page headers are checked by this package before a decoder sees them, pages are
// decompressed here under a cap, and arrow-go's column readers, which decode the values, run under recover: a file that is
// truncated or damaged gives an error of kind fault.Corrupt that names the file, the row group and the column.
package offline

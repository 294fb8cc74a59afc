package offline

// pageLocation says where a data page begins: its header in the file, its first row in the row group.
type pageLocation struct {
	offset   int64
	firstRow int64
}

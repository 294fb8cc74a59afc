//go:build !unix

package offline

// syncFolder does nothing: systems other than Unix do not open folders.
func syncFolder(string) error { return nil }

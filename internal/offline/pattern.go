package offline

import (
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/twofold-ml/twofold/internal/fault"
)

// Pattern is a source path, taken by its letters: it tells which files a scan of the path would read if they were there, without
// looking. A path that names no glob is taken for a file and for a folder at once, because only a look could tell.
type Pattern struct {
	at location
	// prefix is the part before the first meta character; the first fixed bytes end in a slash and are in no pattern.
	prefix string
	fixed  int
	glob   bool
	// folder says that the path ends in a slash, so that no file is meant.
	folder bool
}

// ParsePattern gives the pattern of a whole URL (s3://bucket/prefix/*.parquet, as Store.Resolve gives it) or of a local path. An error is of kind
// fault.Invalid.
func ParsePattern(url string) (*Pattern, error) {
	at, err := parseLocation(url)
	if err != nil {
		return nil, err
	}
	p := &Pattern{}
	p.prefix, p.glob = fixedPrefix(at.path)
	if p.glob {
		if !doublestar.ValidatePattern(at.path) {
			return nil, fault.New(fault.Invalid, "%s is not a valid pattern: check its brackets and braces", at)
		}
		p.fixed = strings.LastIndexByte(p.prefix, '/') + 1
	}
	p.at = at.with(strings.TrimSuffix(at.path, "/"))
	p.folder = p.at.path != at.path
	return p, nil
}

// String gives the pattern's URL.
func (p *Pattern) String() string { return p.at.String() }

// Matches reports whether a file of this URL, or absolute local path, is one that the path names.
func (p *Pattern) Matches(url string) bool {
	file, err := parseLocation(url)
	if err != nil || file.bucket != p.at.bucket {
		return false
	}
	key := file.path
	if p.glob {
		return strings.HasPrefix(key, p.prefix) && !hidden(key[p.fixed:]) && matches(p.at.path, key, p.fixed)
	}
	if key == p.at.path {
		return key != "" && !p.folder
	}
	return beneath(p.at.path, key) && strings.HasSuffix(key, parquetSuffix) && !hidden(strings.TrimPrefix(key[len(p.at.path):], "/"))
}

// LocalRoot gives the local path at or beneath which all the files lie: a folder, or the one file. It is empty for a path of S3. Names beneath it
// that start with _ or . are those of files and folders that are left out.
func (p *Pattern) LocalRoot() string {
	switch root := p.at.path; {
	case p.at.isS3():
		return ""
	case p.glob && p.fixed > 1:
		return root[:p.fixed-1]
	case p.glob || root == "":
		return "/"
	default:
		return root
	}
}

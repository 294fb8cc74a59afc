package server

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// changedFiles names the files that are others now than they were, as the end of a sentence; empty where none is or where they are not known.
func changedFiles(then, now []*twofoldv1.SourceFile) string {
	if len(then) == 0 || len(now) == 0 {
		return ""
	}
	versions := make(map[string]*twofoldv1.SourceFile, len(then))
	for _, f := range then {
		versions[f.GetUrl()] = f
	}
	text := ""
	for _, f := range now {
		earlier, ok := versions[f.GetUrl()]
		delete(versions, f.GetUrl())
		switch {
		case !ok:
			text += "; the file " + f.GetUrl() + " is new"
		case !proto.Equal(earlier, f):
			text += "; the file " + f.GetUrl() + " was replaced"
		}
	}
	for _, url := range slices.Sorted(maps.Keys(versions)) {
		text += "; the file " + url + " is no longer there"
	}
	return text
}

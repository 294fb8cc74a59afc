package syncstate

import (
	"testing"

	"github.com/stretchr/testify/require"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
)

func listOf(due map[string]feature.EventTime) *Files {
	files := NewFiles()
	for url, at := range due {
		files.Add(offline.File{URL: url}, at)
	}
	return files
}

// TestListsOfShards: a file that every shard has is carried up to the least of its due times; one that somebody has carried further, to there.
func TestListsOfShards(t *testing.T) {
	a, b := listOf(map[string]feature.EventTime{"1": 5, "2": NotDue, "3": 7}), listOf(map[string]feature.EventTime{"1": NotDue, "2": 3})
	require.Equal(t, listOf(map[string]feature.EventTime{"1": 5, "2": 3}), Common(a, b))
	require.Equal(t, Common(b, a), Common(a, b))
	require.Equal(t, a, Common(a))
	require.Zero(t, Common().Len())
	require.Zero(t, Common(a, NewFiles()).Len())

	merged := listOf(map[string]feature.EventTime{"1": 9, "4": 1})
	merged.Merge(a)
	require.Equal(t, listOf(map[string]feature.EventTime{"1": 9, "2": NotDue, "3": 7, "4": 1}), merged)
	require.Equal(t, listOf(map[string]feature.EventTime{"1": 5, "2": NotDue, "3": 7}), a, "the lists that it is made of are as they were")
}

// TestSetCarrying: the list of what one definition has carried stays until another one carries something, and does not come back with it.
func TestSetCarrying(t *testing.T) {
	state := &twofoldv1.SyncState{Files: "files/v/1", DefinitionHash: "a"} // as an earlier version has left it
	require.Empty(t, SetCarrying(state, "a"))
	require.Equal(t, "files/v/1", state.GetFiles())
	epoch := state.GetEpoch()
	require.NotEmpty(t, epoch)
	require.Empty(t, SetCarrying(state, "a"))
	require.Equal(t, epoch, state.GetEpoch())
	require.Equal(t, "files/v/1", SetCarrying(state, "b"))
	require.Empty(t, state.GetFiles())
	require.Empty(t, SetCarrying(state, "a"))
	require.Empty(t, state.GetFiles())
	require.NotEqual(t, epoch, state.GetEpoch())
}

package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/syncer"
)

// forgetReceipt says what forget has done, or would do; it is what -o json prints.
type forgetReceipt struct {
	ID     string `json:"id"`
	DryRun bool   `json:"dry_run,omitempty"`
	// BeganAt and EndedAt are the real time, RFC 3339; empty for a dry run.
	BeganAt string `json:"began_at,omitempty"`
	EndedAt string `json:"ended_at,omitempty"`
	Store   string `json:"online_store"`
	// Entity and Entities are what was asked for; empty for an import.
	Entity   string            `json:"entity,omitempty"`
	Exact    bool              `json:"exact,omitempty"`
	Entities []forgottenEntity `json:"entities,omitempty"`
	// Listed is how many entities were not in the list of forgotten ones before; of a dry run, how many are in it.
	Listed int             `json:"listed"`
	Views  []forgottenRows `json:"feature_views"`
	// Verified is whether reading back found nothing any more.
	Verified   bool     `json:"verified"`
	NotCovered []string `json:"not_covered"`
}

type forgottenEntity struct {
	// Hash is the first 16 bytes of the HMAC-SHA256 of the keys' names and values, made with a key that the online store has; empty where it has none yet.
	Hash string            `json:"hmac_sha256,omitempty"`
	Keys map[string]string `json:"keys,omitempty"`
}

type forgottenRows struct {
	View   string `json:"feature_view"`
	Entity string `json:"entity"`
	// Removed is how many entities had rows that were removed, Again how many had some a second time, and Left how many still have some.
	Removed int `json:"removed"`
	Again   int `json:"removed_again"`
	Left    int `json:"left"`
	// Unreadable is how many stored keys cannot be told.
	Unreadable int `json:"unreadable,omitempty"`
}

// receipt tells of a forgetting; began is the zero time for a dry run.
func (f *forgetting) receipt(request syncer.ForgetRequest, done *syncer.Forgetting, began time.Time) *forgetReceipt {
	r := &forgetReceipt{
		ID: rand.Text(), DryRun: began.IsZero(), Store: f.process.onlineName, Exact: request.Exact, Listed: done.Listed, Verified: !began.IsZero() && done.IsVerified(),
		NotCovered: f.notCovered(done), Views: []forgottenRows{},
	}
	if !began.IsZero() {
		r.BeganAt, r.EndedAt = began.UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339)
	}
	if request.Entity != nil {
		r.Entity, r.Entities = request.Entity.Name, f.entities(request, done)
	}
	for _, v := range done.Views {
		r.Views = append(r.Views, forgottenRows{View: v.View, Entity: v.Entity, Removed: v.Removed, Again: v.RemovedAgain, Left: v.Left, Unreadable: v.Unreadable})
	}
	return r
}

// entities tells of the entities that were asked for.
func (f *forgetting) entities(request syncer.ForgetRequest, done *syncer.Forgetting) []forgottenEntity {
	entities := make([]forgottenEntity, request.Keys[0].Len())
	for row := range entities {
		if done.Hashes != nil {
			entities[row].Hash = done.Hashes[row].String()
		}
		if f.showKeys {
			entities[row].Keys = keyTexts(request.Entity, request.Keys, row)
		}
	}
	return entities
}

// notCovered says where the entities may still be.
func (f *forgetting) notCovered(done *syncer.Forgetting) []string {
	var lines []string
	seen := map[string]bool{}
	add := func(format string, args ...any) {
		if line := fmt.Sprintf(format, args...); !seen[line] {
			seen[line] = true
			lines = append(lines, line)
		}
	}
	for _, v := range done.Views {
		if v.Source == nil {
			add("files of feature view %s, which is no longer defined", v.View)
			continue
		}
		add("files of feature view %s: %s", v.View, f.resolve(v.Source.Source.Path))
		switch bad := v.Source.Sync.BadRows; {
		case bad.Policy != feature.QuarantineBadRows:
		case bad.QuarantinePath != "":
			add("files of bad rows of %s: %s", v.View, f.resolve(bad.QuarantinePath))
		default:
			add("files of bad rows of %s: the folder _quarantine beside its files", v.View)
		}
	}
	return append(lines,
		"training sets that were made, and those that are made as long as the entities are in the files",
		"replicas that are behind, snapshots and backups of the online store, and other stores that the same files are synced into",
		"rows that servers keep in memory, for at most their hot_cache.max_staleness",
	)
}

// resolve writes a path as a URL where that can be told.
func (f *forgetting) resolve(path string) string {
	if url, err := f.process.offline.Resolve(path); err == nil {
		return url
	}
	return path
}

// print prints a receipt.
func (f *forgetting) print(r *forgetReceipt) error {
	if f.output == "json" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			_, err = fmt.Fprintln(f.app.out, string(text))
		}
		return err
	}
	return f.printText(r)
}

// maxHashLines is how many entities a receipt for people lists.
const maxHashLines = 20

func (f *forgetting) printText(r *forgetReceipt) error {
	out := f.app.out
	columns := []string{"feature view", "entity", "rows removed of", "again of", "left"}
	if r.DryRun {
		fmt.Fprintf(out, "dry run: nothing was changed in %s\n", r.Store)
		columns = []string{"feature view", "entity", "rows to remove of"}
	} else {
		fmt.Fprintf(out, "receipt %s\nfrom %s to %s, in %s\n", r.ID, r.BeganAt, r.EndedAt, r.Store)
	}
	for i, e := range r.Entities {
		if i == maxHashLines {
			fmt.Fprintf(out, "and %d more (-o json lists all)\n", len(r.Entities)-i)
			break
		}
		var keys strings.Builder
		for _, name := range slices.Sorted(maps.Keys(e.Keys)) {
			fmt.Fprintf(&keys, " %s=%q", name, e.Keys[name])
		}
		if e.Hash != "" {
			keys.WriteString(", HMAC-SHA256 " + e.Hash)
		}
		fmt.Fprintf(out, "entity %s%s\n", r.Entity, keys.String())
	}
	if r.DryRun {
		fmt.Fprintf(out, "on the list of forgotten entities: %d of %d\n", r.Listed, len(r.Entities))
	} else {
		fmt.Fprintf(out, "put into the list of forgotten entities: %d, which were not there before\n", r.Listed)
	}
	t := newTable(columns...)
	for _, v := range r.Views {
		cells := []string{v.View, v.Entity, count(v.Removed, "entity", "entities"), fmt.Sprint(v.Again), fmt.Sprint(v.Left)}
		t.add(cells[:len(columns)]...)
	}
	if err := t.write(out); err != nil {
		return err
	}
	for _, v := range r.Views {
		if v.Unreadable > 0 {
			fmt.Fprintf(out, "feature view %s: %d stored keys cannot be told, and were left\n", v.View, v.Unreadable)
		}
	}
	if r.Verified {
		fmt.Fprintln(out, "read back: nothing of them is left in the online store")
	}
	fmt.Fprintln(out, "not removed, because Twofold does not change them:")
	for _, line := range r.NotCovered {
		fmt.Fprintln(out, "- "+line)
	}
	return nil
}

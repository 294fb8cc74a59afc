package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/entityfile"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
)

// keyArgs are entity keys as written on a command line, in their order: key=value[,value…].
type keyArgs struct {
	names  []string
	values map[string][]string
}

// parseKeyArgs reads arguments "key=value[,value…]". Values are separated as in CSV, so that "a,b" in double quotes is one value. A key
// may be given more than once; its values add up.
func parseKeyArgs(args []string) (keyArgs, error) {
	k := keyArgs{values: map[string][]string{}}
	for _, arg := range args {
		name, text, ok := strings.Cut(arg, "=")
		if !ok || name == "" {
			return k, fmt.Errorf("%q is not an entity key; write key=value, for example origin=EWR", arg)
		}
		reader := csv.NewReader(strings.NewReader(text))
		values, err := reader.Read()
		if errors.Is(err, io.EOF) {
			values, err = []string{""}, nil
		}
		if err != nil {
			return k, fmt.Errorf("%s: %w; put double quotes around a value that has a comma, and double them inside it", name, err)
		}
		if _, ok := k.values[name]; !ok {
			k.names = append(k.names, name)
		}
		k.values[name] = append(k.values[name], values...)
	}
	return k, nil
}

// rows returns the number of entities: that of the longest key. A key with one value has it in every row.
func (k keyArgs) rows() (int, error) {
	rows := 1
	for _, name := range k.names {
		rows = max(rows, len(k.values[name]))
	}
	for _, name := range k.names {
		if n := len(k.values[name]); n != 1 && n != rows {
			return 0, fmt.Errorf("%s has %d values where another key has %d; give each key one value, or as many as there are entities", name, n, rows)
		}
	}
	return rows, nil
}

// columns returns the entity key columns, typed as defined. Every key in types must be given and no other.
func (k keyArgs) columns(types []feature.Key) ([]*twofoldv1.Column, error) {
	typed, err := k.typed(types, "these features")
	if err != nil {
		return nil, err
	}
	columns := make([]*twofoldv1.Column, 0, len(types))
	for _, name := range k.names {
		c := typed[slices.IndexFunc(types, func(key feature.Key) bool { return key.Name == name })]
		m, err := wire.ColumnToProto(name, c, 0, c.Len())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		columns = append(columns, m)
	}
	return columns, nil
}

// typed returns one column for each of types, which are what is needed by something that messages call by a name.
func (k keyArgs) typed(types []feature.Key, what string) ([]*feature.Column, error) {
	rows, err := k.rows()
	if err != nil {
		return nil, err
	}
	if err := k.check(types, what); err != nil {
		return nil, err
	}
	columns := make([]*feature.Column, len(types))
	for i, key := range types {
		columns[i] = feature.NewColumn(key.Type, rows)
		values := k.values[key.Name]
		for row := range rows {
			text := values[0]
			if len(values) > 1 {
				text = values[row]
			}
			if err := entityfile.AppendText(columns[i], text); err != nil {
				return nil, fmt.Errorf("%s: %w", key.Name, err)
			}
		}
	}
	return columns, nil
}

// check reports keys that are missing or not known, with the whole of what is needed.
func (k keyArgs) check(types []feature.Key, what string) error {
	var needed, missing []string
	for _, key := range types {
		needed = append(needed, fmt.Sprintf("%s=%s", key.Name, key.Type))
		if _, ok := k.values[key.Name]; !ok {
			missing = append(missing, key.Name)
		}
	}
	for _, name := range k.names {
		if !slices.ContainsFunc(types, func(key feature.Key) bool { return key.Name == name }) {
			return fmt.Errorf("%q is not an entity key of %s; needed: %s", name, what, strings.Join(needed, " "))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s not given; %s need %s", strings.Join(missing, ", "), what, strings.Join(needed, " "))
	}
	return nil
}

// neededKeys asks the server which entity keys a feature service, or these features, need.
func neededKeys(c *connection, service string, features []string) ([]feature.Key, error) {
	requests := []*twofoldv1.ExplainRequest{explainRequest("service", service)}
	if service == "" {
		requests = nil
		for _, view := range viewsOf(features) {
			requests = append(requests, explainRequest("view", view))
		}
	}
	var keys []feature.Key
	for _, request := range requests {
		answer, err := c.Registry().Explain(c.ctx, request)
		if err != nil {
			return nil, c.wrap(err)
		}
		for _, entity := range answer.GetEntities() {
			for _, key := range entity.GetKeys() {
				k := feature.Key{Name: key.GetName(), Type: feature.Type(key.GetType())} //nolint:gosec // the numbers of both are the same, below 256
				if !k.Type.Valid() {
					return nil, fault.New(fault.Internal, "key %q has the unknown type %v; is this program older than the server?", k.Name, key.GetType())
				}
				if !slices.Contains(keys, k) {
					keys = append(keys, k)
				}
			}
		}
	}
	return keys, nil
}

// viewsOf returns the distinct feature views of "view:feature" names.
func viewsOf(features []string) []string {
	var views []string
	for _, name := range features {
		if view, _, _ := strings.Cut(name, ":"); !slices.Contains(views, view) {
			views = append(views, view)
		}
	}
	return views
}

// checkFeatures refuses names that are not "view:feature".
func checkFeatures(features []string) error {
	for _, name := range features {
		if view, feature, ok := strings.Cut(name, ":"); !ok || view == "" || feature == "" {
			return fmt.Errorf("--features: %q is not view:feature; write for example weather:temp, or weather:* for a whole view", name)
		}
	}
	return nil
}

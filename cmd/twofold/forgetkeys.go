package main

import (
	"context"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

// maxForgotten is how many entities one command forgets.
const maxForgotten = 1_000_000

// keysOfFile reads the keys of entities from a file that has them as columns; other columns are not looked at.
func (f *forgetting) keysOfFile(ctx context.Context, entity *feature.Entity) ([]*feature.Column, error) {
	types, keys := map[string]feature.Type{}, make([]*feature.Column, len(entity.Keys))
	for i, key := range entity.Keys {
		types[key.Name] = key.Type
		keys[i] = feature.NewColumn(key.Type, 0)
	}
	rows, err := f.app.openEntities(ctx, entityFile{path: f.file, format: f.format, types: types, s3: s3Config(f.process.config)})
	if err != nil {
		return nil, err
	}
	defer rows.close()
	err = rows.Each(ctx, func(record arrow.RecordBatch) error { return appendKeys(keys, entity, record) })
	if err == nil && keys[0].Len() == 0 {
		err = fault.New(fault.Invalid, "%s has no rows, so there is nobody to forget", f.file)
	}
	return keys, err
}

// appendKeys appends the keys of a record's rows.
func appendKeys(keys []*feature.Column, entity *feature.Entity, record arrow.RecordBatch) error {
	first := keys[0].Len()
	if first+int(record.NumRows()) > maxForgotten {
		return fault.New(fault.Invalid, "there are more than %d rows; split the file", maxForgotten)
	}
	columns, err := columnsOf(record)
	if err != nil {
		return err
	}
	for i, key := range entity.Keys {
		at := record.Schema().FieldIndices(key.Name)
		if len(at) == 0 {
			return fault.New(fault.Invalid, "it has no column %q, a key of entity %q", key.Name, entity.Name)
		}
		column := columns[at[0]].As(key.Type)
		if column == nil {
			return fault.New(fault.Invalid, "column %q is %v, and the key of entity %q is %v", key.Name, columns[at[0]].Type, entity.Name, key.Type)
		}
		for row := range column.Len() {
			if !column.IsPresent(row) {
				return fault.New(fault.Invalid, "row %d (counted from 0): %s is null, so it names no entity", first+row, key.Name)
			}
			keys[i].AppendFrom(column, row)
		}
	}
	return nil
}

// keyTexts are the keys of one entity as text.
func keyTexts(entity *feature.Entity, keys []*feature.Column, row int) map[string]string {
	texts := map[string]string{}
	for i, key := range entity.Keys {
		texts[key.Name] = keys[i].TextAt(row)
	}
	return texts
}

package server

import (
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/entityfile"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/training"
	"github.com/twofold-ml/twofold/internal/wire"
)

// The settings that say which files callers may name.
const (
	entityPathsSetting = "historical.entity_paths"
	outputPathsSetting = "historical.output_paths"
)

var entityFormats = map[twofoldv1.EntityFileFormat]entityfile.Format{
	twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_PARQUET: entityfile.Parquet,
	twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_CSV:     entityfile.CSV,
	twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_ARROW:   entityfile.Arrow,
}

// readFile reads the entity rows from a file.
func (c *historicalCall) readFile() (err error) {
	file := c.header.GetEntityFile()
	if err := c.server.o.EntityPaths.Allowed(c.ctx, file.GetPath()); err != nil {
		return inField("header.entity_file.path", err)
	}
	if err := c.noMoreMessages("entity_file"); err != nil {
		return err
	}
	types, err := c.fileTypes(file)
	if err != nil {
		return err
	}
	reader, err := entityfile.Open(c.ctx, c.server.o.Offline, file.GetPath(), entityfile.Options{
		Format: entityFormats[file.GetFormat()], Types: types, TimeColumn: c.spec.TimeColumn,
	})
	if err != nil {
		return inField("header.entity_file", err)
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	if err := c.startRows(reader.Schema()); err != nil {
		return err
	}
	err = reader.Each(c.ctx, c.appendCopy)
	c.entityFiles = reader.Files()
	return inField("header.entity_file", err)
}

// appendCopy appends the rows of a record of a file: in memory of their own, because the file's is used again for its next record.
func (c *historicalCall) appendCopy(record arrow.RecordBatch) error {
	own, err := training.Copy(record)
	if err != nil {
		return err
	}
	defer own.Release()
	return c.append(own)
}

// fileTypes are the types of columns of the file that are known: those that the caller says, the keys' and the time's.
func (c *historicalCall) fileTypes(file *twofoldv1.EntityFile) (map[string]feature.Type, error) {
	types := map[string]feature.Type{c.spec.TimeColumn: feature.Timestamp}
	for _, key := range c.selection.KeyNames {
		types[key.Name] = key.Type
	}
	for i, column := range file.GetTypes() {
		t, err := wire.TypeFromProto(column.GetType())
		if err != nil {
			return nil, fault.InvalidField(fmt.Sprintf("header.entity_file.types[%d].type", i), "column %q: %w", column.GetName(), err)
		}
		types[column.GetName()] = t
	}
	return types, nil
}

// inField says which field of the request an error is about, where it does not say so itself.
func inField(field string, err error) error {
	if err == nil {
		return nil
	}
	kind := fault.KindOf(err)
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Field != "" || (kind != fault.Invalid && kind != fault.Precondition) {
		return err
	}
	return &fault.Error{Kind: kind, Field: field, Err: err}
}

// readEntityless makes the entity rows from the features.
func (c *historicalCall) readEntityless() error {
	if err := c.noMoreMessages("entityless"); err != nil {
		return err
	}
	for _, key := range c.selection.KeyNames {
		if key.Name == c.spec.TimeColumn {
			return fault.InvalidField("header.time_column", "%q is the name of an entity key, which the result has a column of; name the times otherwise", key.Name)
		}
	}
	r := c.header.GetEntityless()
	return c.rows.AppendEvents(c.ctx, feature.EventTime(r.GetStartMicros()), feature.EventTime(r.GetEndMicros()))
}

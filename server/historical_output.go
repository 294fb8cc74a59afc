package server

import (
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"google.golang.org/protobuf/encoding/protojson"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/training"
	"github.com/twofold-ml/twofold/internal/wire"
)

// manifestSuffix follows the name of a file that was written in the name of its manifest.
const manifestSuffix = ".manifest.json"

// checkOutput refuses a path that may not be written, before any row is read.
func (c *historicalCall) checkOutput() error {
	output := c.header.GetOutput()
	if output == nil {
		return nil
	}
	for _, path := range []string{output.GetPath(), output.GetPath() + manifestSuffix} {
		if err := c.server.o.OutputPaths.Allowed(c.ctx, path); err != nil {
			return inField("header.output.path", err)
		}
	}
	return nil
}

// writeOutput joins the rows and writes them to a Parquet file, then its manifest beside it.
func (c *historicalCall) writeOutput() error {
	schema := &twofoldv1.HistoricalSchema{Columns: columnSchemas(c.set.Schema())}
	if err := c.out.send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Schema{Schema: schema}}); err != nil {
		return err
	}
	output := c.header.GetOutput()
	manifest, err := c.writeRows(output)
	if err != nil {
		return err
	}
	if err := c.writeManifest(output, manifest); err != nil {
		return fmt.Errorf("%s is written, but its manifest is not: %w", manifest.GetOutput().GetUrl(), err)
	}
	return c.sendManifest(manifest)
}

// writeRows writes the result and returns its manifest. The file appears only if all of it is there and the manifest allows it.
func (c *historicalCall) writeRows(output *twofoldv1.ParquetOutput) (*twofoldv1.HistoricalManifest, error) {
	file, err := c.server.o.Offline.Create(c.ctx, output.GetPath(), offline.CreateOptions{Overwrite: output.GetOverwrite()})
	if err != nil {
		return nil, inField("header.output.path", err)
	}
	defer file.Abort()
	schema := c.set.Schema()
	rows, err := offline.NewParquetWriter(file, schema)
	if err != nil {
		return nil, fault.InvalidField("header.output", "the result cannot be written as Parquet: %w", err)
	}
	encode := func(b *training.Batch) (arrow.RecordBatch, error) { return b.Record(schema) }
	err = training.Run(c.ctx, c.set, encode, func(record arrow.RecordBatch) error {
		defer record.Release()
		return rows.Write(record)
	})
	if err != nil {
		return nil, err
	}
	if err := rows.Close(); err != nil {
		return nil, fmt.Errorf("write %s: %w", file.URL(), err)
	}
	manifest, err := c.manifest()
	if err != nil {
		return nil, err
	}
	written, err := file.Commit(c.ctx)
	if err != nil {
		return nil, err
	}
	manifest.Output = sourceFiles([]offline.File{written})[0]
	return manifest, nil
}

func (c *historicalCall) writeManifest(output *twofoldv1.ParquetOutput, m *twofoldv1.HistoricalManifest) error {
	text, err := wire.FormatJSON(protojson.MarshalOptions{UseProtoNames: true}, m)
	if err != nil {
		return err
	}
	// The file that it belongs to is new, so one of an earlier file is to go.
	file, err := c.server.o.Offline.Create(c.ctx, output.GetPath()+manifestSuffix, offline.CreateOptions{Overwrite: true})
	if err != nil {
		return err
	}
	defer file.Abort()
	if _, err := file.Write(text); err != nil {
		return err
	}
	_, err = file.Commit(c.ctx)
	return err
}

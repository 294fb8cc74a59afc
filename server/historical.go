package server

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/pit"
	"github.com/twofold-ml/twofold/internal/wire"
)

const (
	// defaultBatchRows is the most rows of a batch whose request names none; see feature_service.proto.
	defaultBatchRows = 8192
	// maxBatchBytes is the size above which a batch is halved: half of what gRPC clients accept by default.
	maxBatchBytes = 2 << 20
)

type historicalStream = twofoldv1.FeatureService_GetHistoricalFeaturesServer

// GetHistoricalFeatures implements twofold.v1.FeatureService.
func (s *Server) GetHistoricalFeatures(stream historicalStream) error {
	call, err := s.startHistorical(stream)
	if err != nil {
		return err
	}
	defer call.close()
	if err := call.receive(); err != nil {
		return err
	}
	if err := call.join(); err != nil {
		return err
	}
	if err := call.send(); err != nil {
		return err
	}
	s.metrics.trainingRows.Add(float64(call.input.Len()))
	return nil
}

// historicalCall is one stream: receive, then join, then send.
type historicalCall struct {
	server    *Server
	catalog   *catalog
	stream    historicalStream
	header    *twofoldv1.HistoricalHeader
	selection *feature.Selection
	maxAge    feature.TTL
	// entities are the entity rows, set by the first chunk.
	entities entityTable
	// input is what the join needs of them: keys and times.
	input  *pit.EntityRows
	joined *pit.Joined
	scans  []*offline.Scan
	// timeNames are the names of the event time columns, where they were asked for.
	timeNames []string
}

// startHistorical reads the header.
func (s *Server) startHistorical(stream historicalStream) (*historicalCall, error) {
	first, err := stream.Recv()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	header := first.GetHeader()
	if header == nil {
		return nil, fault.InvalidField("header", "the first message of the stream must be the header, which says what to join")
	}
	if err := s.validate(first); err != nil {
		return nil, err
	}
	if err := s.checkFeatureCount("header.features", len(header.GetFeatures())); err != nil {
		return nil, err
	}
	maxAge, err := staleness(header.GetMaxStaleness())
	if err != nil {
		return nil, err
	}
	c := s.catalog.Load()
	selection, err := c.registry.Select(feature.SelectionQuery{
		Service: header.GetFeatureService(), Features: header.GetFeatures(), ShortNames: header.GetShortNames(),
	})
	if err != nil {
		return nil, err
	}
	call := &historicalCall{server: s, catalog: c, stream: stream, header: header, selection: selection, maxAge: maxAge, input: pit.NewEntityRows(selection.KeyNames)}
	if header.GetIncludeEventTimes() {
		for _, view := range selection.Views {
			call.timeNames = append(call.timeNames, view.View.Name+":"+defaultTimeColumn)
		}
	}
	return call, call.checkCutoff()
}

// checkCutoff refuses a created-time cutoff over views that have no created time, before any row is sent.
func (c *historicalCall) checkCutoff() error {
	if !c.header.GetCreatedTimeCutoff() {
		return nil
	}
	for _, view := range c.selection.Views {
		if view.View.Source.CreatedTimeColumn == "" {
			return fault.New(fault.Precondition, "created_time_cutoff: feature view %q has no created_time_column, so when its rows were written is not known; "+
				"define one or leave the cutoff out", view.View.Name)
		}
	}
	return nil
}

// receive reads entity rows until the client closes its side.
func (c *historicalCall) receive() error {
	for {
		message, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			if c.entities == nil {
				return fault.InvalidField("entity_rows", "the stream ended without entity rows; send at least one chunk, which may have no rows")
			}
			return c.entities.finish()
		}
		if err != nil {
			return err
		}
		chunk := message.GetEntityRows()
		if chunk == nil {
			return fault.InvalidField("entity_rows", "after the header, every message must hold entity rows")
		}
		if err := c.addChunk(chunk); err != nil {
			return err
		}
	}
}

// close frees what the entity rows hold, however the call ended.
func (c *historicalCall) close() {
	if c.entities != nil {
		c.entities.close()
	}
}

func (c *historicalCall) addChunk(chunk *twofoldv1.EntityRows) error {
	if c.entities == nil {
		switch chunk.GetRows().(type) {
		case *twofoldv1.EntityRows_Columns:
			c.entities = &columnTable{call: c}
		case *twofoldv1.EntityRows_ArrowIpc:
			c.entities = newArrowTable(c)
		default:
			return fault.InvalidField("entity_rows.rows", "neither columns nor arrow_ipc is set")
		}
	}
	return c.entities.add(chunk)
}

// checkNames refuses entity-row columns whose names clash with columns of the result; called once, before any work.
func (c *historicalCall) checkNames(names []string) error {
	for i, name := range names {
		field := fmt.Sprintf("entity_rows.columns[%d].name", i)
		if slices.Contains(names[:i], name) {
			return fault.InvalidField(field, "two columns are named %q", name)
		}
		if slices.Contains(c.timeNames, name) {
			return fault.InvalidField(field, "%q is the name of a column of the result; rename it", name)
		}
		for _, column := range c.selection.Columns {
			if column.Name == name {
				return fault.InvalidField(field, "%q is the name of a feature column of the result; rename it, or leave short_names out", name)
			}
		}
	}
	return nil
}

// feed gives the join the keys and times of some entity rows. It is called from one goroutine: that of the call, or the one that decodes Arrow.
func (c *historicalCall) feed(columns wire.Columns) error {
	keys := make([]*feature.Column, len(c.selection.KeyNames))
	var err error
	for k, key := range c.selection.KeyNames {
		if keys[k], err = entityKey(c.selection, key, columns, "entity_rows.columns"); err != nil {
			return err
		}
	}
	name := orDefault(c.header.GetTimeColumn(), defaultTimeColumn)
	times, at := findColumn(columns, name)
	if times == nil {
		return fault.InvalidField("entity_rows.columns", "no column %q (TIMESTAMP), the time of each entity row; send it, or name another in header.time_column%s",
			name, feature.DidYouMean(name, columns.Names))
	}
	if times.Type != feature.Timestamp {
		return fault.InvalidField(fmt.Sprintf("entity_rows.columns[%d]", at), "time column %q must be TIMESTAMP, not %v", name, times.Type)
	}
	if limit := c.server.o.MaxEntityRows; c.input.Len()+times.Len() > limit {
		return pastLimit("entity_rows", "max_entity_rows_per_stream", limit, "more than this server's limit of %d entity rows in one stream; send several streams", limit)
	}
	return c.input.Append(keys, times)
}

// join runs the point-in-time join over all views.
func (c *historicalCall) join() error {
	views := make([]pit.ViewJoin, len(c.selection.Views))
	for v, selected := range c.selection.Views {
		scan := c.server.o.Offline.Table(selected.View).Scan()
		c.scans = append(c.scans, scan)
		views[v] = pit.ViewJoin{
			View: selected.View, Features: selected.Features, Keys: selected.Keys,
			TTL: selected.View.TTL.Tighten(c.maxAge), Source: scan,
		}
	}
	var err error
	c.joined, err = pit.Join(c.stream.Context(), c.input, views, pit.Options{CreatedTimeCutoff: c.header.GetCreatedTimeCutoff()})
	return err
}

// send sends schema, batches and manifest.
func (c *historicalCall) send() error {
	out := c.newEncoder()
	schema, err := out.schema()
	if err != nil {
		return err
	}
	if err := c.stream.Send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Schema{Schema: schema}}); err != nil {
		return err
	}
	if err := c.sendBatches(out); err != nil {
		return err
	}
	manifest := c.manifest()
	if manifest.ArrowIpc, err = out.end(); err != nil {
		return err
	}
	return c.stream.Send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Manifest{Manifest: manifest}})
}

// sendBatches sends all rows in order, in batches of bounded rows and bytes.
func (c *historicalCall) sendBatches(out encoder) error {
	size := int(c.header.GetMaxBatchRows())
	if size == 0 {
		size = defaultBatchRows
	}
	for from := 0; from < c.input.Len(); {
		to := min(from+size, c.input.Len())
		bytes, err := out.prepare(from, to)
		if err != nil {
			return err
		}
		if bytes > maxBatchBytes && to-from > 1 {
			size = max(1, (to-from)/2)
			continue
		}
		batch, err := out.take()
		if err != nil {
			return err
		}
		batch.RowCount = uint32(to - from)
		if err := c.stream.Send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Batch{Batch: batch}}); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// features returns the feature columns and event time columns of some rows, in output order.
func (c *historicalCall) features(from, to int) []*feature.Column {
	byView := make([][]*feature.Column, len(c.selection.Views))
	for v, view := range c.selection.Views {
		byView[v] = make([]*feature.Column, len(view.Features))
		for i, f := range view.Features {
			byView[v][i] = feature.NewColumn(view.View.Features[f].Type, to-from)
		}
		c.joined.Batch(v, from, to, byView[v])
	}
	columns := make([]*feature.Column, 0, len(c.selection.Columns)+len(c.timeNames))
	for _, column := range c.selection.Columns {
		columns = append(columns, byView[column.View][column.Position])
	}
	for v := range c.timeNames {
		times := feature.NewColumn(feature.Timestamp, to-from)
		c.joined.EventTimes(v, from, to, times)
		columns = append(columns, times)
	}
	return columns
}

// featureSchema returns the names and types of what features returns.
func (c *historicalCall) featureSchema() (names []string, types []feature.Type) {
	for _, column := range c.selection.Columns {
		view := c.selection.Views[column.View]
		names = append(names, column.Name)
		types = append(types, view.View.Features[view.Features[column.Position]].Type)
	}
	for _, name := range c.timeNames {
		names = append(names, name)
		types = append(types, feature.Timestamp)
	}
	return names, types
}

func (c *historicalCall) manifest() *twofoldv1.HistoricalManifest {
	m := &twofoldv1.HistoricalManifest{RowCount: uint64(c.input.Len()), DefinitionsHash: c.catalog.registry.Hash()}
	for v, view := range c.selection.Views {
		stats := c.joined.Stats(v)
		vm := &twofoldv1.HistoricalViewManifest{
			Name: view.View.Name, RowsRead: uint64(stats.RowsRead), RowsPruned: uint64(stats.RowsPruned),
			RowsNull: uint64(stats.RowsNull), UnmatchedRows: uint64(stats.Unmatched),
		}
		for _, file := range c.scans[v].Files() {
			vm.Files = append(vm.Files, &twofoldv1.SourceFile{Url: file.URL, SizeBytes: uint64(file.SizeBytes), Etag: file.ETag})
		}
		m.Views = append(m.Views, vm)
	}
	return m
}

// encoder turns rows of the result into batches of one format.
type encoder interface {
	// schema is called first, once.
	schema() (*twofoldv1.HistoricalSchema, error)
	// prepare builds the batch of some rows and returns its size in bytes, about.
	prepare(from, to int) (bytes int, err error)
	// take returns the batch that was prepared last.
	take() (*twofoldv1.HistoricalBatch, error)
	// end returns the bytes that end an Arrow stream.
	end() ([]byte, error)
}

func (c *historicalCall) newEncoder() encoder {
	if c.header.GetFormat() == twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC {
		return newArrowEncoder(c)
	}
	return &columnEncoder{call: c}
}

// columnEncoder sends typed columns.
type columnEncoder struct {
	call *historicalCall
	// names of the feature columns.
	names []string
	batch *twofoldv1.HistoricalBatch
}

func (e *columnEncoder) schema() (*twofoldv1.HistoricalSchema, error) {
	entityNames, entityTypes, err := e.call.entities.schema()
	if err != nil {
		return nil, err
	}
	names, types := e.call.featureSchema()
	e.names = names
	names, types = append(slices.Clip(entityNames), names...), append(slices.Clip(entityTypes), types...)
	schema := &twofoldv1.HistoricalSchema{}
	for i, name := range names {
		schema.Columns = append(schema.Columns, wire.ColumnSchema(name, types[i]))
	}
	return schema, nil
}

func (e *columnEncoder) prepare(from, to int) (int, error) {
	columns, err := e.call.entities.columns(from, to)
	if err != nil {
		return 0, err
	}
	features, err := wire.ColumnsToProto(e.names, e.call.features(from, to), 0, to-from)
	if err != nil {
		return 0, err
	}
	e.batch = &twofoldv1.HistoricalBatch{Columns: &twofoldv1.ColumnBatch{Columns: append(columns, features...)}}
	return proto.Size(e.batch), nil
}

func (e *columnEncoder) take() (*twofoldv1.HistoricalBatch, error) { return e.batch, nil }

func (e *columnEncoder) end() ([]byte, error) { return nil, nil }

package server

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/offline"
	"github.com/twofold-ml/twofold/internal/training"
)

const (
	// defaultBatchRows is the most rows of a batch whose request names none; see feature_service.proto.
	defaultBatchRows = 8192
	// maxBatchBytes is the size above which a batch is halved: half of what gRPC clients accept by default.
	maxBatchBytes = 2 << 20
)

type historicalStream = twofoldv1.FeatureService_GetHistoricalFeaturesServer

// GetHistoricalFeatures implements twofold.v1.FeatureService.
func (s *Server) GetHistoricalFeatures(stream historicalStream) (err error) {
	call, err := s.startHistorical(stream)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, call.rows.Close()) }()
	defer s.metrics.trainings.begin(&call.progress)()
	if err := call.read(); err != nil {
		return err
	}
	call.set = training.NewSet(call.rows, &call.progress)
	if err := call.answer(); err != nil {
		return err
	}
	s.metrics.countTraining(call)
	return nil
}

// historicalCall is one stream: read the entity rows, then join and send.
type historicalCall struct {
	server    *Server
	catalog   *catalog
	out       *historicalSender
	stream    historicalStream
	ctx       context.Context
	header    *twofoldv1.HistoricalHeader
	selection *feature.Selection
	spec      *training.Spec
	scans     []*offline.Scan
	rows      *training.EntityRows
	set       *training.Set
	progress  training.Progress
	// entityFiles are the files that the entity rows were read from.
	entityFiles []offline.File
	// typed says that typed columns are sent, so that entity rows must be of types that the contract has.
	typed bool
	// stopProgress ends the progress messages and waits for the last.
	stopProgress func()
}

// startHistorical reads the header and refuses what can be refused before any row is read.
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
	c := s.catalog.Load()
	selection, err := c.registry.Select(feature.SelectionQuery{
		Service: header.GetFeatureService(), Features: header.GetFeatures(), ShortNames: header.GetShortNames(),
	})
	if err == nil {
		err = s.checkFeatureCount(selectionField(header), len(selection.Columns))
	}
	if err != nil {
		return nil, inHeader(err)
	}
	call := &historicalCall{
		server: s, catalog: c, stream: stream, ctx: stream.Context(), out: &historicalSender{stream: stream}, header: header, selection: selection,
		typed:        header.GetFormat() != twofoldv1.HistoricalFormat_HISTORICAL_FORMAT_ARROW_IPC && header.GetOutput() == nil,
		stopProgress: func() {},
	}
	for _, view := range selection.Views {
		call.scans = append(call.scans, s.o.Offline.Table(view.View).Scan())
	}
	if err := call.pin(); err != nil {
		return nil, err
	}
	if call.spec, err = call.newSpec(); err != nil {
		return nil, err
	}
	if err := call.checkOutput(); err != nil {
		return nil, err
	}
	limit := s.o.MaxEntityRows
	call.rows, err = training.NewEntityRows(call.spec, s.trainingMemory, training.Limits{
		EntityRows: int64(limit), TempDir: s.o.TempDir,
		Exceeded: func() error {
			return pastLimit("entity_rows", "max_entity_rows_per_stream", limit, "more than this server's limit of %d entity rows in one stream; send several streams", limit)
		},
	})
	return call, err
}

// selectionField is the field that chooses the features.
func selectionField(header *twofoldv1.HistoricalHeader) string {
	if header.GetFeatureService() != "" {
		return "header.feature_service"
	}
	return "header.features"
}

// inHeader says that the field which an error names is one of the header.
func inHeader(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Field != "" && !strings.HasPrefix(e.Field, "header.") {
		return &fault.Error{Kind: e.Kind, Field: "header." + e.Field, Err: e.Err}
	}
	return err
}

// newSpec turns the header into what the training set is made of.
func (c *historicalCall) newSpec() (*training.Spec, error) {
	maxAge, err := staleness(c.header.GetMaxStaleness())
	if err != nil {
		return nil, err
	}
	times, err := c.timeRange()
	if err != nil {
		return nil, err
	}
	spec := &training.Spec{
		Selection: c.selection, TimeColumn: orDefault(c.header.GetTimeColumn(), defaultTimeColumn), MaxAge: maxAge,
		CreatedTimeCutoff: c.header.GetCreatedTimeCutoff(), EventTimes: c.header.GetIncludeEventTimes(), Statuses: c.header.GetIncludeStatuses(), Times: times,
		BatchRows: defaultBatchRows, BatchBytes: maxBatchBytes,
	}
	if rows := c.header.GetMaxBatchRows(); rows > 0 {
		spec.BatchRows = int(rows)
	}
	for _, scan := range c.scans {
		spec.Sources = append(spec.Sources, scan)
		remote, err := scan.IsRemote()
		if err != nil {
			return nil, err
		}
		spec.Remote = spec.Remote || remote
	}
	return spec, nil
}

// timeRange is the range of entity times that are kept; nil for all.
func (c *historicalCall) timeRange() (*training.TimeRange, error) {
	r := c.header.GetTimeRange()
	if r == nil {
		return nil, nil
	}
	if c.header.GetEntityless() != nil {
		return nil, fault.InvalidField("header.time_range", "entityless has a range of its own; leave time_range out")
	}
	times := &training.TimeRange{Start: math.MinInt64, End: math.MaxInt64}
	if r.StartMicros != nil {
		times.Start = feature.AsOf(r.GetStartMicros())
	}
	if r.EndMicros != nil {
		times.End = feature.AsOf(r.GetEndMicros())
	}
	if times.Start >= times.End {
		return nil, fault.InvalidField("header.time_range", "no time is in it: the start is not before the end, which is left out of the range")
	}
	return times, nil
}

// read reads the entity rows, wherever they come from.
func (c *historicalCall) read() error {
	c.stopProgress = c.out.tellProgress(c.ctx, c.header.GetProgressInterval().AsDuration(), &c.progress)
	var err error
	switch {
	case c.header.GetEntityFile() != nil:
		err = c.readFile()
	case c.header.GetEntityless() != nil:
		err = c.readEntityless()
	default:
		err = c.receive()
	}
	if err == nil {
		err = c.rows.Finish()
	}
	if err == nil {
		err = c.checkEntityHash()
	}
	if err != nil {
		c.stopProgress()
	}
	return err
}

// answer joins and sends schema, batches and manifest; or writes the batches to a file.
func (c *historicalCall) answer() error {
	defer c.stopProgress()
	if c.header.GetOutput() != nil {
		return c.writeOutput()
	}
	out := c.newEncoder()
	schema, err := out.schema()
	if err != nil {
		return err
	}
	if err := c.out.send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Schema{Schema: schema}}); err != nil {
		return err
	}
	if err := out.run(c.ctx); err != nil {
		return err
	}
	manifest, err := c.manifest()
	if err != nil {
		return err
	}
	if manifest.ArrowIpc, err = out.end(); err != nil {
		return err
	}
	return c.sendManifest(manifest)
}

func (c *historicalCall) sendManifest(m *twofoldv1.HistoricalManifest) error {
	c.stopProgress()
	return c.out.send(&twofoldv1.GetHistoricalFeaturesResponse{Message: &twofoldv1.GetHistoricalFeaturesResponse_Manifest{Manifest: m}})
}

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/entityfile"
	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/wire"
)

// trainOptions are the flags of train.
type trainOptions struct {
	timeout time.Duration
	// What is joined.
	features      []string
	timeColumn    string
	maxStaleness  time.Duration
	createdCutoff bool
	eventTimes    bool
	statuses      bool
	shortNames    bool
	// Where entity rows come from.
	entities       string
	serverEntities string
	entitiesFormat string
	types          []string
	entityless     bool
	start, end     string
	// Where the result goes.
	out          string
	outFormat    string
	serverOut    string
	overwrite    bool
	saveManifest string
	// manifest is what is repeated.
	manifest string
}

func (o *trainOptions) addFlags(f *pflag.FlagSet) {
	f.StringSliceVarP(&o.features, "features", "f", nil, "features to join instead of a service: `view:feature`,… or view:*")
	f.StringVarP(&o.entities, "entities", "e", "", "`file` or s3:// URL of entity rows, or - for standard input")
	f.StringVar(&o.serverEntities, "server-entities", "", "`file` or s3:// URL of entity rows that the server reads, relative to its offline store")
	f.StringVar(&o.entitiesFormat, "entities-format", "", "csv, parquet or arrow (default by the file's name; for standard input by its first bytes)")
	f.StringSliceVar(&o.types, "type", nil, "type of a CSV column, as `column=TYPE`, for example zip=STRING")
	f.BoolVar(&o.entityless, "entityless", false, "make the entity rows from the features, from --start up to but without --end")
	f.StringVar(&o.start, "start", "", "leave out entity rows before this `time` (default none)")
	f.StringVar(&o.end, "end", "", "leave out entity rows at or after this `time` (default none)")
	f.StringVar(&o.timeColumn, "time-column", "event_timestamp", "column that holds each entity row's time")
	f.StringVarP(&o.out, "out", "o", "", "`file` or s3:// URL to write, or - for standard output")
	f.StringVar(&o.outFormat, "format", "", "parquet, csv or arrow (default by the file's name; csv for standard output)")
	f.StringVar(&o.serverOut, "server-out", "", "Parquet `file` or s3:// URL that the server writes, relative to its offline store, where historical.output_paths allows that")
	f.BoolVar(&o.overwrite, "overwrite", false, "replace the file of --server-out if it is there (default is to fail)")
	f.StringVar(&o.saveManifest, "save-manifest", "", "`file` for the manifest (default beside --out, named like it with .manifest.json after it)")
	f.StringVar(&o.manifest, "manifest", "", "repeat the training set of this manifest `file`; --out is by default the file that it stands beside")
	f.DurationVar(&o.maxStaleness, "max-staleness", 0, "leave out values older than this at the row's time; can only tighten a view's ttl (default the ttl)")
	f.BoolVar(&o.createdCutoff, "created-time-cutoff", false, "use only rows that had been written by the row's time")
	f.BoolVar(&o.eventTimes, "event-times", false, "add a column view:event_timestamp a view")
	f.BoolVar(&o.statuses, "statuses", false, "add a column view:feature:status a feature: PRESENT, NULL or NOT_FOUND")
	f.BoolVar(&o.shortNames, "short-names", false, "name feature columns without their view")
}

// check completes the formats, refuses options that cannot be, and returns the feature service, if there is one.
func (o *trainOptions) check(cmd *cobra.Command, args []string) (service string, err error) {
	if o.manifest != "" {
		err = o.checkRepetition(cmd, args)
	} else {
		service, err = o.checkJoin(cmd, args)
	}
	if err == nil {
		err = o.checkEntities(cmd)
	}
	if err == nil {
		err = o.checkOutput(cmd)
	}
	return service, err
}

// checkJoin checks the options of a training set that repeats no other.
func (o *trainOptions) checkJoin(cmd *cobra.Command, args []string) (service string, err error) {
	service, rest, err := whatToRead(cmd, args, o.features)
	switch {
	case err != nil:
		return "", err
	case len(rest) > 0:
		return "", usagef(cmd, "%q is not the name of a feature service; entity rows come from --entities", rest[0])
	case o.maxStaleness < 0:
		return "", usagef(cmd, "--max-staleness: %v is less than 0", o.maxStaleness)
	case o.entities == "" && o.serverEntities == "" && !o.entityless:
		return "", usagef(cmd, "--entities is missing: the file of entity rows, or - for standard input; "+
			"or --server-entities for a file that the server reads, or --entityless to make them from the features")
	case o.out == "" && o.serverOut == "":
		return "", usagef(cmd, "--out is missing: the file to write, or - for standard output; or --server-out for one that the server writes")
	case o.entityless && (o.start == "" || o.end == ""):
		return "", usagef(cmd, "--entityless needs --start and --end: the times between which to make entity rows")
	case o.entityless && (o.entities != "" || o.serverEntities != ""):
		return "", usagef(cmd, "--entityless makes the entity rows from the features; leave it out, or the file of entity rows")
	}
	times, err := o.times()
	if err != nil {
		return "", usageError{cmd, err}
	}
	if times.StartMicros != nil && times.EndMicros != nil && times.GetStartMicros() >= times.GetEndMicros() {
		return "", usagef(cmd, "no time is in the range: --start %s is not before --end %s, which is left out of it", o.start, o.end)
	}
	return service, nil
}

// checkRepetition refuses what the manifest says.
func (o *trainOptions) checkRepetition(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(cmd, "--manifest says what to join, so leave %q out", args[0])
	}
	for _, name := range []string{
		"features", "time-column", "max-staleness", "created-time-cutoff", "event-times", "statuses", "short-names", "entityless", "start", "end",
	} {
		if cmd.Flags().Changed(name) {
			return usagef(cmd, "--%s is an option of the training set, which --manifest repeats as it was; leave one of them out", name)
		}
	}
	if o.out == "" && o.serverOut == "" && o.outFormat != "" {
		return usagef(cmd, "--format goes with --out: name the file to write")
	}
	return nil
}

// checkEntities checks the options of the file of entity rows.
func (o *trainOptions) checkEntities(cmd *cobra.Command) (err error) {
	if o.entities != "" && o.serverEntities != "" {
		return usagef(cmd, "both --entities and --server-entities are given; choose one")
	}
	if o.entityless && (o.entitiesFormat != "" || len(o.types) > 0) {
		return usagef(cmd, "--entities-format and --type say how a file of entity rows is read; with --entityless there is none")
	}
	if _, err := parseTypes(o.types); err != nil {
		return usageError{cmd, err}
	}
	file := o.entities
	if o.entitiesFormat != "" || (o.manifest == "" && file != "" && file != "-") {
		if o.entitiesFormat, err = formatOf("--entities-format", o.entitiesFormat, file); err != nil {
			return usageError{cmd, err}
		}
	}
	return nil
}

// checkOutput checks the options of the result.
func (o *trainOptions) checkOutput(cmd *cobra.Command) (err error) {
	switch {
	case o.out != "" && o.serverOut != "":
		return usagef(cmd, "both --out and --server-out are given; choose one")
	case o.serverOut != "" && o.outFormat != "":
		return usagef(cmd, "the server writes Parquet; leave --format out, or write the file here with --out")
	case o.overwrite && o.out != "":
		return usagef(cmd, "--overwrite goes with --server-out; a file of --out is replaced anyhow")
	case o.out != "" && o.out != "-" && o.out == o.entities:
		return usagef(cmd, "--out is the file of entity rows itself; name another")
	case o.saveManifest == "-":
		return usagef(cmd, "--save-manifest: the manifest goes to a file only; name one")
	case o.saveManifest != "" && (o.saveManifest == o.out || o.saveManifest == o.entities):
		return usagef(cmd, "--save-manifest: %s is a file of rows already; name another", o.saveManifest)
	}
	if o.out != "" {
		if o.outFormat, err = formatOf("--format", o.outFormat, o.out); err != nil {
			return usageError{cmd, err}
		}
	}
	return nil
}

// times is the range of --start and --end.
func (o *trainOptions) times() (*twofoldv1.TimeRange, error) {
	micros := func(flag, text string) (*int64, error) {
		if text == "" {
			return nil, nil
		}
		at, err := entityfile.ParseTime(text)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		us := at.UnixMicro()
		return &us, nil
	}
	start, err := micros("start", o.start)
	if err != nil {
		return nil, err
	}
	end, err := micros("end", o.end)
	return &twofoldv1.TimeRange{StartMicros: start, EndMicros: end}, err
}

// job is what the flags ask for; check has seen them.
func (o *trainOptions) job(service string) (*trainJob, error) {
	header := &twofoldv1.HistoricalHeader{
		FeatureService: service, Features: o.features, TimeColumn: o.timeColumn, CreatedTimeCutoff: o.createdCutoff,
		ShortNames: o.shortNames, IncludeEventTimes: o.eventTimes, IncludeStatuses: o.statuses,
	}
	if o.maxStaleness > 0 {
		header.MaxStaleness = durationpb.New(o.maxStaleness)
	}
	times, err := o.times()
	if err != nil {
		return nil, err
	}
	switch {
	case o.entityless:
		header.Entities = &twofoldv1.HistoricalHeader_Entityless{Entityless: &twofoldv1.Entityless{StartMicros: times.GetStartMicros(), EndMicros: times.GetEndMicros()}}
	case o.start != "" || o.end != "":
		header.TimeRange = times
	}
	job := &trainJob{header: header}
	return job, o.place(job)
}

// place sets where the entity rows come from and where the result goes, as far as flags say so.
func (o *trainOptions) place(job *trainJob) error {
	types, err := parseTypes(o.types)
	if err != nil {
		return err
	}
	job.types, job.entitiesFormat = types, o.entitiesFormat
	switch {
	case o.entities != "":
		job.header.Entities, job.entities = nil, o.entities
	case o.serverEntities != "":
		file := &twofoldv1.EntityFile{Path: o.serverEntities, Format: entityFileFormats[o.entitiesFormat]}
		for _, name := range slices.Sorted(maps.Keys(types)) {
			file.Types = append(file.Types, wire.ColumnSchema(name, types[name]))
		}
		job.header.Entities = &twofoldv1.HistoricalHeader_EntityFile{EntityFile: file}
	}
	switch {
	case o.out != "":
		job.header.Output, job.out, job.outFormat = nil, o.out, o.outFormat
	case o.serverOut != "":
		job.header.Output = &twofoldv1.ParquetOutput{Path: o.serverOut, Overwrite: o.overwrite}
	}
	job.manifest = o.saveManifest
	if job.manifest == "" && job.out != "" && job.out != "-" {
		job.manifest = job.out + manifestSuffix
	}
	return nil
}

// The file formats of train.
const (
	formatCSV     = "csv"
	formatParquet = "parquet"
	formatArrow   = "arrow"
)

var entityFileFormats = map[string]twofoldv1.EntityFileFormat{
	formatCSV:     twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_CSV,
	formatParquet: twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_PARQUET,
	formatArrow:   twofoldv1.EntityFileFormat_ENTITY_FILE_FORMAT_ARROW,
}

// formatOf returns the format of a file: what the flag says, else by its name; CSV for "-".
func formatOf(flag, said, file string) (string, error) {
	name := said
	if name == "" {
		name = formatCSV
		if file != "-" {
			name = file[strings.LastIndexByte(file, '.')+1:]
		}
	}
	switch name = strings.ToLower(name); name {
	case formatCSV, formatParquet, formatArrow:
		return name, nil
	case "pq":
		return formatParquet, nil
	case "arrows", "ipc", "feather":
		return formatArrow, nil
	}
	if said != "" {
		return "", fmt.Errorf("%s: %q is not known; write csv, parquet or arrow", flag, said)
	}
	return "", fmt.Errorf("the format of %s cannot be told from its name; say it with %s: csv, parquet or arrow", file, flag)
}

// parseTypes reads "column=TYPE" flags.
func parseTypes(flags []string) (map[string]feature.Type, error) {
	types := map[string]feature.Type{}
	for _, flag := range flags {
		name, text, ok := strings.Cut(flag, "=")
		t, known := feature.ParseType(strings.ToUpper(text))
		if !ok || !known || t.IsList() {
			return nil, fmt.Errorf("--type: %q is not column=TYPE; write for example zip=STRING (BOOL, INT32, INT64, FLOAT, DOUBLE, STRING, BYTES, TIMESTAMP)", flag)
		}
		types[name] = t
	}
	return types, nil
}

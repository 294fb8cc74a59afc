package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/entityfile"
)

// getOptions are the flags of get.
type getOptions struct {
	timeout        time.Duration
	features       []string
	maxStaleness   time.Duration
	asOf           string
	eventTimes     bool
	includeExpired bool
	allowPartial   bool
	output         string
}

func (a *app) getCommand() *cobra.Command {
	var o getOptions
	cmd := &cobra.Command{
		Use:   "get [SERVICE] KEY=VALUE[,VALUE…]…",
		Short: "Read the freshest features of entities",
		Long: `Reads the freshest features of one or more entities from a server's online store.

What to read is a feature service, or features by name with --features. Every entity key that they need is given as
key=value; several entities as key=value,value. A key with one value has it for every entity. A value that has a
comma goes in double quotes; a BYTES key may be written as 0x….

A value that is not there says why in brackets: (NULL) its newest row has a null, (NOT_FOUND) the entity has no row,
(EXPIRED) its row is older than the ttl allows, (UNAVAILABLE) it could not be read, with --allow-partial only. In CSV it
is an empty cell; use JSON where the reason matters.`,
		Example: `  twofold get departure_delay_v1 origin=EWR carrier=UA tail_number=N14228
  twofold get --features weather:temp,weather:wind_speed origin=EWR,JFK,LGA --event-times
  twofold get --features 'weather:*' origin=EWR --max-staleness 1h -o json
  twofold get --features weather:temp origin=EWR --include-expired --event-times
  twofold get --features runway:closed origin=EWR --as-of 2013-07-01T12:00:00Z`,
		GroupID: groupUse,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.get(cmd, args, o) },
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.completeGet(cmd, args, o)
		},
	}
	clientFlags(cmd, &o.timeout, 10*time.Second)
	cmd.Flags().StringSliceVarP(&o.features, "features", "f", nil, "features to read instead of a service: `view:feature`,… or view:*")
	cmd.Flags().DurationVar(&o.maxStaleness, "max-staleness", 0, "treat values older than this as expired; can only tighten a view's ttl (default the ttl)")
	cmd.Flags().StringVar(&o.asOf, "as-of", "", "show the features as they were at this `time` (RFC 3339), of views that keep versions (default now)")
	cmd.Flags().BoolVar(&o.includeExpired, "include-expired", false, "show the values of expired rows too, marked (EXPIRED); in CSV nothing marks them")
	cmd.Flags().BoolVar(&o.allowPartial, "allow-partial", false, "where a part of the store cannot be read, show the rest")
	cmd.Flags().BoolVar(&o.eventTimes, "event-times", false, "show the event time of each view's row")
	cmd.Flags().StringVarP(&o.output, "output", "o", "table", "table, json or csv")
	return cmd
}

func (a *app) get(cmd *cobra.Command, args []string, o getOptions) error {
	service, args, err := whatToRead(cmd, args, o.features)
	if err != nil {
		return err
	}
	write, ok := answerPrinters[o.output]
	if !ok {
		return usagef(cmd, "-o: %q is not known; write table, json or csv", o.output)
	}
	if o.maxStaleness < 0 {
		return usagef(cmd, "--max-staleness: %v is less than 0", o.maxStaleness)
	}
	request, err := o.request(service)
	if err != nil {
		return usageError{cmd, err}
	}
	keys, err := parseKeyArgs(args)
	if err != nil {
		return usageError{cmd, err}
	}
	c, done, err := a.connect(cmd, o.timeout)
	if err != nil {
		return err
	}
	defer done()
	types, err := neededKeys(c, service, o.features)
	if err != nil {
		return err
	}
	if request.Entities, err = keys.columns(types); err != nil {
		return usageError{cmd, err}
	}
	response, err := c.Online(c.ctx, request)
	if err != nil {
		return c.wrap(err)
	}
	answer, err := newAnswer(response, len(request.GetEntities()), o.includeExpired)
	if err != nil {
		return err
	}
	faults := answer.faults()
	for _, view := range slices.Sorted(maps.Keys(faults)) {
		a.complain(fmt.Sprintf("warning: feature view %q could not be read whole: %s", view, faults[view]))
	}
	return write(answer, a.out)
}

// request is what the flags ask for, without the entities.
func (o getOptions) request(service string) (*twofoldv1.GetOnlineFeaturesRequest, error) {
	request := &twofoldv1.GetOnlineFeaturesRequest{
		FeatureService: service, Features: o.features, IncludeEventTimes: o.eventTimes, IncludeExpired: o.includeExpired, AllowPartial: o.allowPartial,
	}
	if o.maxStaleness > 0 {
		request.MaxStaleness = durationpb.New(o.maxStaleness)
	}
	if o.asOf != "" {
		at, err := entityfile.ParseTime(o.asOf)
		if err != nil {
			return nil, fmt.Errorf("--as-of: %w", err)
		}
		request.AsOfMicros = client.AsOf(at)
	}
	return request, nil
}

// whatToRead returns the feature service, "" where features are named, and the other arguments.
func whatToRead(cmd *cobra.Command, args, features []string) (string, []string, error) {
	if err := checkFeatures(features); err != nil {
		return "", nil, usageError{cmd, err}
	}
	named := len(args) > 0 && !strings.Contains(args[0], "=")
	switch {
	case named && len(features) == 0 && strings.Contains(args[0], ":"):
		return "", nil, usagef(cmd, "%q is not the name of a feature service; features are named with a flag: --features %s", args[0], args[0])
	case named && len(features) > 0:
		return "", nil, usagef(cmd, "both the feature service %q and --features are given; choose one", args[0])
	case named:
		return args[0], args[1:], nil
	case len(features) == 0:
		return "", nil, usagef(cmd, "name a feature service, or features with --features; `twofold explain` lists what there is")
	default:
		return "", args, nil
	}
}

// completeGet completes the name of the service and then the entity keys, as the server at hand has them.
func (a *app) completeGet(cmd *cobra.Command, args []string, o getOptions) ([]string, cobra.ShellCompDirective) {
	cmd.SetContext(context.WithoutCancel(cmd.Context()))
	c, done, err := a.connect(cmd, time.Second)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer done()
	if len(args) == 0 && len(o.features) == 0 {
		return serviceNames(c), cobra.ShellCompDirectiveNoFileComp
	}
	service, given, err := whatToRead(cmd, args, o.features)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	types, err := neededKeys(c, service, o.features)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, key := range types {
		if !strings.Contains(" "+strings.Join(given, " "), " "+key.Name+"=") {
			words = append(words, key.Name+"=")
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// serviceNames returns the names of the feature services, with what they are for the shells that show it.
func serviceNames(c *connection) []string {
	all, err := definitions(c.ctx, c.Registry())
	if err != nil {
		return nil
	}
	var words []string
	for _, s := range all.GetFeatureServices() {
		words = append(words, cobra.CompletionWithDesc(s.GetName(), s.GetDescription()))
	}
	return words
}

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
	"github.com/twofold-ml/twofold/internal/config"
	"github.com/twofold-ml/twofold/internal/fault"
	"github.com/twofold-ml/twofold/internal/feature"
)

func (a *app) explainCommand() *cobra.Command {
	var timeout time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "explain [[entity|view|service] NAME]",
		Short: "List what is defined, or explain one definition",
		Long: `Without arguments, lists the entities, feature views and feature services of a server. With a name, explains one of
them: its definition with every default filled in, what it needs in a request, how fresh it is kept. Where several
have the name, say which is meant.`,
		Example: `  twofold explain
  twofold explain weather
  twofold explain service departure_delay_v1
  twofold explain view weather -o json`,
		GroupID:   groupUse,
		ValidArgs: []string{"entity", "view", "service"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 2 {
				return usagef(cmd, "write nothing, or what to explain: twofold explain view weather")
			}
			if len(args) == 1 && explainRequest(args[0], "") != nil {
				return usagef(cmd, "which %s? Write its name: twofold explain %s NAME; `twofold explain` lists what there is", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usagef(cmd, "-o: %q is not known; write text or json", output)
			}
			var request *twofoldv1.ExplainRequest
			if len(args) == 2 {
				if request = explainRequest(args[0], args[1]); request == nil {
					return usagef(cmd, "%q cannot be explained; write entity, view or service", args[0])
				}
			}
			c, done, err := a.connect(cmd, timeout)
			if err != nil {
				return err
			}
			defer done()
			if len(args) == 0 {
				return a.list(c, output)
			}
			if request == nil {
				if request, err = c.findNamed(cmd, args[0]); err != nil {
					return err
				}
			}
			answer, err := c.Registry().Explain(c.ctx, request)
			if err != nil {
				return c.wrap(err)
			}
			if output == "json" {
				return a.writeJSON(answer)
			}
			_, err = fmt.Fprintln(a.out, strings.TrimRight(answer.GetText(), "\n"))
			return err
		},
	}
	clientFlags(cmd, &timeout, 10*time.Second)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// explainRequest returns nil for a kind of definition that there is not.
func explainRequest(kind, name string) *twofoldv1.ExplainRequest {
	switch kind {
	case "entity":
		return &twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_Entity{Entity: name}}
	case "view":
		return &twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_FeatureView{FeatureView: name}}
	case "service":
		return &twofoldv1.ExplainRequest{Subject: &twofoldv1.ExplainRequest_FeatureService{FeatureService: name}}
	default:
		return nil
	}
}

// findNamed returns the request for the one definition of a name.
func (c *connection) findNamed(cmd *cobra.Command, name string) (*twofoldv1.ExplainRequest, error) {
	all, err := definitions(c.ctx, c.Registry())
	if err != nil {
		return nil, c.wrap(err)
	}
	var names, kinds []string
	add := func(kind, n string) {
		names = append(names, n)
		if n == name {
			kinds = append(kinds, kind)
		}
	}
	for _, e := range all.GetEntities() {
		add("entity", e.GetName())
	}
	for _, v := range all.GetFeatureViews() {
		add("view", v.GetName())
	}
	for _, s := range all.GetFeatureServices() {
		add("service", s.GetName())
	}
	switch len(kinds) {
	case 0:
		return nil, fault.New(fault.NotDefined, "no entity, feature view or feature service %q is defined%s", name, feature.DidYouMean(name, names))
	case 1:
		return explainRequest(kinds[0], name), nil
	default:
		return nil, usagef(cmd, "%q is the name of %s; say which: %s %s %s", name, strings.Join(kinds, " and "), cmd.CommandPath(), kinds[0], name)
	}
}

// list prints everything that is defined.
func (a *app) list(c *connection, output string) error {
	all, err := definitions(c.ctx, c.Registry())
	if err != nil {
		return c.wrap(err)
	}
	if output == "json" {
		return a.writeJSON(all)
	}
	t := newTable("kind", "name", "what it is")
	for _, e := range all.GetEntities() {
		keys := make([]string, len(e.GetKeys()))
		for i, k := range e.GetKeys() {
			keys[i] = k.GetName() + " " + strings.TrimPrefix(k.GetType().String(), "VALUE_TYPE_")
		}
		t.add("entity", e.GetName(), describe(strings.Join(keys, ", "), e.GetDescription()))
	}
	for _, v := range all.GetFeatureViews() {
		fresh := "no ttl"
		if ttl := v.GetTtl().AsDuration(); ttl > 0 {
			fresh = "ttl " + config.FormatDuration(ttl)
		}
		t.add("view", v.GetName(), describe(fmt.Sprintf("%d features of %s, %s", len(v.GetFeatures()), v.GetEntity(), fresh), v.GetDescription()))
	}
	for _, s := range all.GetFeatureServices() {
		t.add("service", s.GetName(), describe("", s.GetDescription()))
	}
	return t.write(a.out)
}

func describe(facts, description string) string {
	if facts == "" || description == "" {
		return facts + description
	}
	return facts + ". " + description
}

// definitions reads every page of every list.
func definitions(ctx context.Context, r twofoldv1.RegistryServiceClient) (*twofoldv1.Definitions, error) {
	all := &twofoldv1.Definitions{}
	err := pages(func(token string) (string, error) {
		page, err := r.ListEntities(ctx, &twofoldv1.ListEntitiesRequest{PageSize: 1000, PageToken: token})
		all.Entities = append(all.Entities, page.GetEntities()...)
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	err = pages(func(token string) (string, error) {
		page, err := r.ListFeatureViews(ctx, &twofoldv1.ListFeatureViewsRequest{PageSize: 1000, PageToken: token})
		all.FeatureViews = append(all.FeatureViews, page.GetFeatureViews()...)
		return page.GetNextPageToken(), err
	})
	if err != nil {
		return nil, err
	}
	err = pages(func(token string) (string, error) {
		page, err := r.ListFeatureServices(ctx, &twofoldv1.ListFeatureServicesRequest{PageSize: 1000, PageToken: token})
		all.FeatureServices = append(all.FeatureServices, page.GetFeatureServices()...)
		return page.GetNextPageToken(), err
	})
	return all, err
}

// pages calls read with the token of each page, "" first, until there is no next one.
func pages(read func(token string) (next string, err error)) error {
	for token := ""; ; {
		next, err := read(token)
		if err != nil || next == "" {
			return err
		}
		token = next
	}
}

// jsonFormat writes messages for people and programs alike: names as in the contract, every field that is set.
var jsonFormat = protojson.MarshalOptions{UseProtoNames: true}

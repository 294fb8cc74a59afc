package workload

import (
	"fmt"
	"math/rand/v2"

	"google.golang.org/protobuf/proto"

	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// Request is one GetOnlineFeaturesRequest, ready to be sent, and what it asks for.
type Request struct {
	// Entities are the keys asked for, in order.
	Entities []int
	// Body is the encoded message.
	Body []byte
}

// Requests returns n requests of the shape for random entities, those of one request distinct. The same data and shape give the same
// requests.
func (d Data) Requests(s Shape, n int) ([]Request, error) {
	if s.Rows > d.Entities {
		return nil, fmt.Errorf("a request of shape %v needs %d entities and there are %d; raise --entities", s, s.Rows, d.Entities)
	}
	draw := d.drawer(rand.NewPCG(d.seedOf("requests"), d.seedOf(s.String())))
	if d.Zipf > 0 && s.Rows > d.Entities/10 {
		return nil, fmt.Errorf("a request of shape %v draws too many of %d entities by a Zipf distribution; raise --entities", s, d.Entities)
	}
	requests := make([]Request, n)
	for i := range requests {
		var err error
		if requests[i], err = NewRequest(s.Layout(), distinct(draw, s.Rows)); err != nil {
			return nil, err
		}
	}
	return requests, nil
}

// EdgeRequests returns requests of which the measured ones have none: for entities without rows, and, where the shape has
// several rows, for the same entity twice.
func (d Data) EdgeRequests(s Shape) ([]Request, error) {
	entities := make([]int, s.Rows)
	for i := range entities {
		entities[i] = i % d.Entities
	}
	entities[0] = d.Missing()
	if s.Rows > 1 {
		entities[s.Rows-1] = entities[s.Rows/2]
	}
	request, err := NewRequest(s.Layout(), entities)
	if err != nil {
		return nil, err
	}
	return []Request{request}, nil
}

// NewRequest returns the request for all features of the layout by its feature service, with every option at its default.
func NewRequest(l Layout, entities []int) (Request, error) {
	keys := make([]int64, len(entities))
	for i, e := range entities {
		keys[i] = int64(e)
	}
	body, err := proto.Marshal(&twofoldv1.GetOnlineFeaturesRequest{
		FeatureService: l.Service(),
		Entities:       []*twofoldv1.Column{{Name: KeyName, Values: &twofoldv1.Column_Int64S{Int64S: &twofoldv1.Int64Array{Values: keys}}}},
	})
	if err != nil {
		return Request{}, fmt.Errorf("encode a request: %w", err)
	}
	return Request{entities, body}, nil
}

// drawer returns what draws entities.
func (d Data) drawer(source rand.Source) func() int {
	r := rand.New(source)
	if d.Zipf == 0 {
		return func() int { return r.IntN(d.Entities) }
	}
	// Who is asked for often has nothing to do with the order in which entities were written.
	entities := rand.New(rand.NewPCG(d.seedOf("ranks"), 0)).Perm(d.Entities)
	zipf := rand.NewZipf(r, d.Zipf, 1, uint64(d.Entities-1))
	return func() int { return entities[zipf.Uint64()] }
}

// distinct draws k different entities.
func distinct(draw func() int, k int) []int {
	drawn := make([]int, 0, k)
	seen := make(map[int]bool, k)
	for len(drawn) < k {
		if e := draw(); !seen[e] {
			seen[e] = true
			drawn = append(drawn, e)
		}
	}
	return drawn
}

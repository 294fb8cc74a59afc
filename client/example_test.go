package client_test

import (
	"context"
	"fmt"
	"log"
	"slices"
	"sync"
	"time"

	"github.com/twofold-ml/twofold/client"
	twofoldv1 "github.com/twofold-ml/twofold/gen/go/twofold/v1"
)

// A ranker asks for thousands of candidates in chunks, all at once over one stream.
func ExampleOnlineStream() {
	c, err := client.Dial("localhost:7070")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()

	candidates := make([]string, 10_000)
	stream := c.OnlineStream(ctx)
	var asking sync.WaitGroup
	for items := range slices.Chunk(candidates, 500) {
		asking.Go(func() {
			resp, err := stream.Online(ctx, &twofoldv1.GetOnlineFeaturesRequest{
				FeatureService: "ranking_v1",
				Entities:       []*twofoldv1.Column{client.Strings("item_id", items...)},
				OmitEntities:   true,
			})
			if err != nil {
				log.Print(err) // of these candidates only
				return
			}
			prices := client.Find(resp.GetColumns(), "price:amount")
			for row, item := range items {
				if price, ok := client.Double(prices, row); ok {
					fmt.Println(item, price)
				}
			}
		})
	}
	asking.Wait()
	if err := stream.Close(); err != nil {
		log.Fatal(err)
	}
}

// A caller that would rather have some features, or old ones, than none asks for both and sees what it got.
func ExampleFaults() {
	c, err := client.Dial("localhost:7070")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	resp, err := c.Online(context.Background(), &twofoldv1.GetOnlineFeaturesRequest{
		Features:       []string{"weather:wind_speed", "queue:length"},
		Entities:       []*twofoldv1.Column{client.Strings("origin", "EWR")},
		AllowPartial:   true,
		IncludeExpired: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	for view, fault := range client.Faults(resp) {
		log.Printf("view %s could not be read whole: %v", view, fault)
	}
	switch speed, s := client.Value[float64](client.Find(resp.GetColumns(), "weather:wind_speed"), 0); s {
	case twofoldv1.ValueStatus_VALUE_STATUS_PRESENT:
		fmt.Println("wind speed", speed)
	case twofoldv1.ValueStatus_VALUE_STATUS_EXPIRED:
		fmt.Println("wind speed some time ago", speed)
	default:
		fmt.Println("wind speed is not known:", s)
	}
}

package event

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/twofold-ml/twofold/internal/testenv"
)

// TestKafkaReal does against Apache Kafka itself what the other tests do against one that can be told to fail: commits, a process that takes another's place,
// two of one group, a broker that is killed and comes back, and events that a real S3 service sends to it.
func TestKafkaReal(t *testing.T) {
	server := testenv.Kafka(t)
	kafka := newBroker(t, []string{server.Addr}, kgo.RecordDeliveryTimeout(time.Minute))
	eventually(t, func() bool {
		_, err := kafka.admin.CreateTopic(t.Context(), 2, 1, nil, topic)
		return err == nil
	}, "a topic")

	first := newBench(t, "v", "s3://b/v")
	stop := kafka.consume(t, first.Intake)
	kafka.produce(t, 0, put("none"), put("v/1.parquet"), "bad")
	trigger := first.next(t)
	kafka.awaitCommitted(t, 0, 1)
	first.queue.Done(trigger, nil)
	kafka.awaitCommitted(t, 0, 3)
	kafka.produce(t, 0, put("v/2.parquet"))
	trigger = first.next(t)
	stop()
	first.queue.Done(trigger, nil)
	assert.Equal(t, int64(3), kafka.committed(t, 0), "the run ended after its process did")

	second := newBench(t, "v", "s3://b/v")
	stop = kafka.consume(t, second.Intake)
	trigger = second.next(t)
	assert.Equal(t, "s3://b/v/2.parquet", trigger.First.URL)
	second.queue.Done(trigger, nil)
	kafka.awaitCommitted(t, 0, 4)
	third := newBench(t, "v", "s3://b/v")
	kafka.consume(t, third.Intake)
	kafka.awaitMembers(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go runAll(ctx, second.queue)
	go runAll(ctx, third.queue)
	for n := range 5 {
		kafka.produce(t, 0, put(fmt.Sprintf("v/a%d.parquet", n)))
		kafka.produce(t, 1, put(fmt.Sprintf("v/b%d.parquet", n)))
	}
	kafka.awaitCommitted(t, 0, 9)
	kafka.awaitCommitted(t, 1, 5)
	assert.NotZero(t, third.events(t, sourceKafka, outcomeRouted))
	stop()
	kafka.awaitMembers(t, 1) // a broker that is killed in a rebalance waits 45 s for the member that left

	server.Kill()
	eventually(t, func() bool { return strings.Contains(third.log.String(), "connecting to Kafka fails") }, "a word about the broker")
	server.Start(t)
	kafka.produce(t, 0, put("v/after.parquet"))
	kafka.awaitCommitted(t, 0, 10)

	if strings.Contains(os.Getenv("TWOFOLD_TEST_SKIP"), "s3") {
		return
	}
	t.Setenv("VGW_EVENT_KAFKA_URL", server.Addr)
	t.Setenv("VGW_EVENT_KAFKA_TOPIC", topic)
	s3 := testenv.S3(t)
	bucket := s3.Bucket(t)
	third.Replace(router(t, "v", "s3://"+bucket+"/v"))
	before := third.events(t, sourceKafka, outcomeRouted)
	s3.Put(t, bucket, "v/1.parquet", []byte("x"))
	eventually(t, func() bool { return third.events(t, sourceKafka, outcomeRouted) > before }, "the S3 service's event")
	require.NoError(t, ctx.Err())
}

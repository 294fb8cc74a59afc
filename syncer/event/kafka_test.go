package event

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/twofold-ml/twofold/internal/fault"
)

const (
	topic = "events"
	group = "twofold-test"
)

// broker is a Kafka cluster, real or not, as tests see it.
type broker struct {
	addrs  []string
	client *kgo.Client
	admin  *kadm.Client
}

func newBroker(t testing.TB, addrs []string, opts ...kgo.Opt) *broker {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addrs...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))...)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return &broker{addrs: addrs, client: client, admin: kadm.NewClient(client)}
}

// fake starts a cluster that can be told to fail, with the topic.
func fake(t testing.TB, partitions int32, opts ...kfake.Opt) (*kfake.Cluster, *broker) {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(partitions, topic), kfake.GroupMinSessionTimeout(time.Second)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, newBroker(t, cluster.ListenAddrs())
}

// produce writes records to a partition.
func (b *broker) produce(t testing.TB, partition int32, values ...string) {
	t.Helper()
	for _, value := range values {
		require.NoError(t, b.client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Partition: partition, Value: []byte(value)}).FirstErr())
	}
}

// committed gives the offset that the group has committed for a partition; -1 where there is none.
func (b *broker) committed(t testing.TB, partition int32) int64 {
	t.Helper()
	offsets, err := b.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		return -1
	}
	if o, ok := offsets.Lookup(topic, partition); ok {
		return o.At
	}
	return -1
}

func (b *broker) awaitCommitted(t testing.TB, partition int32, offset int64) {
	t.Helper()
	eventually(t, func() bool { return b.committed(t, partition) == offset }, "partition %d committed up to %d", partition, offset)
}

// awaitMembers waits until the group has that many members and each has partitions.
func (b *broker) awaitMembers(t testing.TB, members int) {
	t.Helper()
	eventually(t, func() bool {
		groups, err := b.admin.DescribeGroups(t.Context(), group)
		if err != nil || groups[group].State != "Stable" || len(groups[group].Members) != members {
			return false
		}
		for _, m := range groups[group].Members {
			if assigned, ok := m.Assigned.AsConsumer(); !ok || len(assigned.Topics) == 0 {
				return false
			}
		}
		return true
	}, "%d members that read", members)
}

// consume runs a source until the test, or whoever calls stop, ends it.
func (b *broker) consume(t testing.TB, intake *Intake, change ...func(*KafkaOptions)) (stop func()) {
	t.Helper()
	o := KafkaOptions{Intake: intake, Brokers: b.addrs, Topic: topic, Group: group, CommitInterval: 5 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	k, err := NewKafka(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-ended)
	})
	t.Cleanup(stop)
	return stop
}

func put(key string) string { return record1("ObjectCreated:Put", "b", key) }

func TestKafkaCommitsWhatIsDone(t *testing.T) {
	_, kafka := fake(t, 1)
	b := newBench(t, "v", "s3://b/v", "w", "s3://b/w")
	kafka.produce(t, 0, put("none"), put("v/1.parquet"), put("w/1.parquet"), put("v/2.parquet"))
	kafka.consume(t, b.Intake)
	kafka.awaitCommitted(t, 0, 1)
	eventually(t, func() bool { return b.events(t, sourceKafka, outcomeRouted) == 3 }, "all routed")
	first := b.next(t)
	second := b.next(t)
	if first.View == "w" {
		first, second = second, first
	}
	b.queue.Done(second, nil)
	assert.Equal(t, int64(1), kafka.committed(t, 0), "the record before it waits for another run")
	eventually(t, func() bool { return b.metric(t, "twofold_sync_event_kafka_lag", "0", topic) == 3 }, "a lag of 3")
	b.queue.Done(first, nil)
	if first.Objects < 2 { // the run began before the second event came
		b.queue.Done(b.next(t), nil)
	}
	kafka.awaitCommitted(t, 0, 4)
	eventually(t, func() bool { return b.metric(t, "twofold_sync_event_kafka_lag", "0", topic) == 0 }, "no lag")
}

func TestKafkaBadRecordsBlockNothing(t *testing.T) {
	_, kafka := fake(t, 1)
	b := newBench(t, "v", "s3://b/v")
	kafka.produce(t, 0, "hello", `{"Records":[{"eventName":"ObjectCreated:Put"}]}`, "", "["+put("v/1.parquet")+",{}]", put("v/2.parquet"))
	kafka.consume(t, b.Intake)
	eventually(t, func() bool { return b.events(t, sourceKafka, outcomeRouted) == 2 }, "the good ones routed")
	assert.Equal(t, 3, b.events(t, sourceKafka, outcomeBad))
	assert.Equal(t, 1, b.events(t, sourceKafka, outcomeIgnored))
	kafka.awaitCommitted(t, 0, 3)
	for objects := 0; objects < 2; {
		trigger := b.next(t)
		objects += trigger.Objects
		b.queue.Done(trigger, nil)
	}
	kafka.awaitCommitted(t, 0, 5)
	assert.Contains(t, b.log.String(), "offset=0")
}

func TestKafkaAfterACrash(t *testing.T) {
	_, kafka := fake(t, 1)
	crashed := newBench(t, "v", "s3://b/v")
	kafka.produce(t, 0, put("none"), put("v/1.parquet"))
	stop := kafka.consume(t, crashed.Intake)
	trigger := crashed.next(t)
	stop() // while the run is under way
	assert.Equal(t, int64(1), kafka.committed(t, 0))
	crashed.queue.Done(trigger, nil)

	b := newBench(t, "v", "s3://b/v")
	kafka.consume(t, b.Intake)
	trigger = b.next(t)
	assert.Equal(t, "s3://b/v/1.parquet", trigger.First.URL, "its event comes again")
	b.queue.Done(trigger, context.Canceled)
	trigger = b.next(t)
	assert.Equal(t, int64(1), kafka.committed(t, 0), "a run that failed settles nothing")
	b.queue.Done(trigger, nil)
	kafka.awaitCommitted(t, 0, 2)
}

// TestKafkaStopCommits stops a source that would commit only much later.
func TestKafkaStopCommits(t *testing.T) {
	_, kafka := fake(t, 1)
	b := newBench(t, "v", "s3://b/v")
	kafka.produce(t, 0, put("v/1.parquet"))
	stop := kafka.consume(t, b.Intake, func(o *KafkaOptions) { o.CommitInterval = time.Hour })
	b.queue.Done(b.next(t), nil)
	stop()
	assert.Equal(t, int64(1), kafka.committed(t, 0))
}

func TestKafkaCommitFails(t *testing.T) {
	t.Parallel()
	cluster, kafka := fake(t, 2)
	faults := cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Partitions: []int32{0}, Err: kerr.UnknownServerError, Count: 5},
		kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Partitions: []int32{1}, Err: kerr.NotCoordinator, Count: 5},
	)
	b := newBench(t)
	kafka.produce(t, 0, put("none"))
	kafka.produce(t, 1, put("none"), put("none"))
	kafka.consume(t, b.Intake)
	require.NoError(t, faults.Wait(t.Context(), 10))
	kafka.awaitCommitted(t, 0, 1)
	kafka.awaitCommitted(t, 1, 2)
	eventually(t, func() bool { return strings.Contains(b.log.String(), "committing offsets to Kafka works again") }, "a word that it works again")
	assert.Contains(t, b.log.String(), "committing offsets to Kafka fails")
}

func TestKafkaFetchFails(t *testing.T) {
	t.Parallel()
	cluster, kafka := fake(t, 1)
	faults := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: 2})
	b := newBench(t)
	kafka.produce(t, 0, put("none"))
	kafka.consume(t, b.Intake)
	kafka.awaitCommitted(t, 0, 1)
	assert.GreaterOrEqual(t, faults.Hits(), 2)
	assert.Contains(t, b.log.String(), "reading events from Kafka fails")
}

// TestKafkaBrokerAway takes the only broker away and brings it back at the same address with its data.
func TestKafkaBrokerAway(t *testing.T) {
	t.Parallel()
	port, data := freePort(t), t.TempDir()
	start := func() *kfake.Cluster {
		cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(data), kfake.SyncWrites(), kfake.SeedTopics(1, topic))
		require.NoError(t, err)
		return cluster
	}
	b := newBench(t, "v", "s3://b/v")
	kafka := newBroker(t, []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	kafka.consume(t, b.Intake) // before there is a broker
	eventually(t, func() bool { return strings.Contains(b.log.String(), "connecting to Kafka fails") }, "a word about it")
	for round := range int64(3) {
		cluster := start()
		kafka.produce(t, 0, put(fmt.Sprintf("v/%d.parquet", round)))
		trigger := b.next(t)
		if round == 1 { // the broker is away when the run ends
			cluster.Close()
			b.queue.Done(trigger, nil)
			cluster = start()
		} else {
			b.queue.Done(trigger, nil)
		}
		// Events that came again after the broker lost its group are runs too.
		ctx, cancel := context.WithCancel(t.Context())
		go runAll(ctx, b.queue)
		kafka.awaitCommitted(t, 0, round+1)
		cancel()
		cluster.Close()
	}
	assert.Contains(t, b.log.String(), "connecting to Kafka works again")
}

// runAll answers every trigger at once.
func runAll(ctx context.Context, q *Queue) {
	for {
		trigger, err := q.Next(ctx)
		if err != nil {
			return
		}
		q.Done(trigger, nil)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestKafkaTopicComesLater(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	kafka := newBroker(t, cluster.ListenAddrs())
	b := newBench(t)
	metadata := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Observe: true, Count: -1})
	kafka.consume(t, b.Intake)
	require.NoError(t, metadata.Wait(t.Context(), 2))
	_, err = kafka.admin.CreateTopic(t.Context(), 1, 1, nil, topic)
	require.NoError(t, err)
	kafka.produce(t, 0, put("none"))
	kafka.awaitCommitted(t, 0, 1)
}

// TestKafkaRebalance lets processes of one group come and go while records come and runs are under way. Every record must be in a run that succeeded,
// of whichever process, and all must be committed at the end.
func TestKafkaRebalance(t *testing.T) {
	t.Parallel()
	const partitions, each = 4, 40
	_, kafka := fake(t, partitions)
	var mu sync.Mutex
	carried := map[string]bool{}
	b := make([]*bench, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var runners sync.WaitGroup
	for i := range b {
		// A view for each record tells which were carried.
		var pairs []string
		for p := range partitions {
			for n := range each {
				view := fmt.Sprintf("%d-%d", p, n)
				pairs = append(pairs, view, "s3://b/"+view)
			}
		}
		b[i] = newBench(t, pairs...)
		runners.Go(func() {
			for {
				trigger, err := b[i].queue.Next(ctx)
				if err != nil {
					return
				}
				mu.Lock()
				carried[trigger.View] = true
				mu.Unlock()
				b[i].queue.Done(trigger, nil)
			}
		})
	}
	stops := []func(){kafka.consume(t, b[0].Intake)}
	for n := range each {
		for p := range int32(partitions) {
			kafka.produce(t, p, put(fmt.Sprintf("%d-%d", p, n)))
		}
		switch n {
		case 10, 20:
			stops = append(stops, kafka.consume(t, b[len(stops)].Intake))
			kafka.awaitMembers(t, len(stops))
		case 25:
			stops[0]()
		case 35:
			stops[1]()
		}
	}
	for p := range int32(partitions) {
		kafka.awaitCommitted(t, p, each)
	}
	cancel()
	runners.Wait()
	assert.Len(t, carried, partitions*each)
	for _, bench := range b {
		assert.NotZero(t, bench.events(t, sourceKafka, outcomeRouted))
	}
}

func TestKafkaLogin(t *testing.T) {
	t.Parallel()
	certified := httptest.NewTLSServer(nil)
	defer certified.Close()
	trusting := certified.Client().Transport.(*http.Transport).TLSClientConfig
	_, kafka := fake(t, 1, kfake.TLS(certified.TLS), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "pw"), kfake.Superuser("SCRAM-SHA-256", "u", "pw"), kfake.Superuser("SCRAM-SHA-512", "u", "pw"))
	kafka = newBroker(t, kafka.addrs, kgo.DialTLSConfig(trusting), kgo.SASL(plain.Auth{User: "u", Pass: "pw"}.AsMechanism()))
	for i, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		login := func(password string) func(*KafkaOptions) {
			return func(o *KafkaOptions) { o.TLS, o.SASL, o.User, o.Password = trusting.Clone(), mechanism, "u", password }
		}
		b := newBench(t)
		kafka.produce(t, 0, put("none"))
		stop := kafka.consume(t, b.Intake, login("wrong"))
		eventually(t, func() bool { return strings.Contains(b.log.String(), "connecting to Kafka fails") }, "a word that the password is wrong")
		stop()
		assert.NotContains(t, b.log.String(), "wrong", "the password itself")
		stop = kafka.consume(t, b.Intake, login("pw"))
		kafka.awaitCommitted(t, 0, int64(i+1))
		stop()
	}
}

func TestKafkaOptionsThatAreWrong(t *testing.T) {
	good := KafkaOptions{Intake: newBench(t).Intake, Brokers: []string{"127.0.0.1:9092"}, Topic: topic, Group: group}
	_, err := NewKafka(good)
	require.NoError(t, err)
	for want, change := range map[string]func(*KafkaOptions){
		"at least one broker":  func(o *KafkaOptions) { o.Brokers = nil },
		"name the topic":       func(o *KafkaOptions) { o.Topic = "" },
		"name the consumer":    func(o *KafkaOptions) { o.Group = "" },
		"or none of them":      func(o *KafkaOptions) { o.User = "u" },
		"the mechanism, the":   func(o *KafkaOptions) { o.SASL = "plain" },
		`"kerberos" is none`:   func(o *KafkaOptions) { o.SASL, o.User = "kerberos", "u" },
		"unable to parse port": func(o *KafkaOptions) { o.Brokers = []string{"a:b"} },
	} {
		o := good
		change(&o)
		_, err := NewKafka(o)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

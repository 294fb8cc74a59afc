package event

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/twofold-ml/twofold/internal/fault"
)

// KafkaOptions is what a Kafka source is made of.
type KafkaOptions struct {
	// Intake takes the events. Required.
	Intake *Intake
	// Brokers are the addresses, "host:port", of some brokers of the cluster. Required.
	Brokers []string
	// Topic is read. Its records' values are event notifications as webhooks have them. Required.
	Topic string
	// Group is the consumer group that offsets are committed for. Processes of one group share the partitions. Required.
	Group string
	// TLS encrypts connections. Defaults to none.
	TLS *tls.Config
	// SASL is how to log in: "plain", "scram-sha-256" or "scram-sha-512". Defaults to none.
	SASL string
	// User and Password are for SASL.
	User     string
	Password string `json:"-"`
	// CommitInterval is how often offsets are committed, where there are any to commit. Defaults to 1 s.
	CommitInterval time.Duration
}

// Kafka reads events from a topic. An event's offset is committed once a run that began after it has succeeded, or at once where it belongs to no view
// or cannot be read; so each event is read at least once, also by whoever comes after a crash. A group that has committed nothing yet reads the topic
// from its beginning.
type Kafka struct {
	o      KafkaOptions
	ledger ledger
	// committing is held while offsets are on their way, so that none comes after those of the process that has the partition next.
	committing sync.Mutex
	// reading and writing, and connecting to each broker, are logged when they begin to fail and when they work again.
	reading, writing outage
	connecting       connections
}

const (
	// kafkaRetryWait is the first pause after a read that failed; it doubles up to maxKafkaRetryWait. The client has pauses of its own between its tries,
	// and what it has read meanwhile should not wait long.
	kafkaRetryWait    = 100 * time.Millisecond
	maxKafkaRetryWait = 3 * time.Second
	// kafkaStopTimeout bounds the last commit and the leaving of the group.
	kafkaStopTimeout = 5 * time.Second
	// metadataAge is how old the client's picture of the cluster becomes before it is renewed; a topic that was not there is found then at the latest.
	metadataAge = 30 * time.Second
)

// NewKafka checks the options; it connects to nothing. Errors are of kind fault.Invalid.
func NewKafka(o KafkaOptions) (*Kafka, error) {
	switch {
	case len(o.Brokers) == 0:
		return nil, fault.InvalidField("brokers", "name at least one broker of the Kafka cluster as host:port")
	case o.Topic == "":
		return nil, fault.InvalidField("topic", "name the topic that events are read from")
	case o.Group == "":
		return nil, fault.InvalidField("group", "name the consumer group that offsets are committed for")
	case (o.SASL == "") != (o.User == "" && o.Password == ""):
		return nil, fault.InvalidField("sasl", "give the mechanism, the user and the password, or none of them")
	}
	setDefault(&o.CommitInterval, time.Second)
	k := &Kafka{o: o, ledger: ledger{partitions: map[int32]*ledgerPartition{}}}
	logger := o.Intake.logger.With("topic", o.Topic, "group", o.Group)
	k.reading = outage{what: "reading events from Kafka", logger: logger}
	k.writing = outage{what: "committing offsets to Kafka", logger: logger}
	k.connecting = connections{logger: logger, brokers: map[string]*outage{}}
	if _, err := k.options(context.Background()); err != nil {
		return nil, err
	}
	return k, nil
}

// options gives those of the client.
func (k *Kafka) options(ctx context.Context) ([]kgo.Opt, error) {
	opts := []kgo.Opt{
		kgo.WithContext(ctx), kgo.ClientID("twofold"), kgo.SeedBrokers(k.o.Brokers...), kgo.WithHooks(&k.connecting), kgo.MetadataMaxAge(metadataAge),
		kgo.ConsumeTopics(k.o.Topic), kgo.ConsumerGroup(k.o.Group), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsRevoked(k.revoked), kgo.OnPartitionsLost(k.lost),
	}
	if k.o.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(k.o.TLS))
	}
	switch k.o.SASL {
	case "":
	case "plain":
		opts = append(opts, kgo.SASL(plain.Auth{User: k.o.User, Pass: k.o.Password}.AsMechanism()))
	case "scram-sha-256":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.o.User, Pass: k.o.Password}.AsSha256Mechanism()))
	case "scram-sha-512":
		opts = append(opts, kgo.SASL(scram.Auth{User: k.o.User, Pass: k.o.Password}.AsSha512Mechanism()))
	default:
		return nil, fault.InvalidField("sasl", "%q is none of plain, scram-sha-256 and scram-sha-512", k.o.SASL)
	}
	if err := kgo.ValidateOpts(opts...); err != nil {
		return nil, fault.New(fault.Invalid, "Kafka: %w", err)
	}
	return opts, nil
}

// Run reads until ctx is done, whatever happens to the brokers meanwhile. Then it commits what it may, leaves the group and returns nil.
func (k *Kafka) Run(ctx context.Context) error {
	// The client outlives ctx for the time that a last commit takes.
	clientCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	opts, err := k.options(clientCtx)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fault.New(fault.Invalid, "Kafka: %w", err)
	}
	var group sync.WaitGroup
	group.Go(func() { k.commitRegularly(ctx, client) })
	for pause := kafkaRetryWait; ctx.Err() == nil; {
		if k.poll(ctx, client) {
			pause = kafkaRetryWait
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, maxKafkaRetryWait)
	}
	group.Wait()
	defer time.AfterFunc(kafkaStopTimeout, cancel).Stop()
	client.CloseAllowingRebalance() // commits in revoked
	return nil
}

// poll takes the records that have come. It reports false where there was nothing but errors.
func (k *Kafka) poll(ctx context.Context, client *kgo.Client) bool {
	fetches := client.PollFetches(ctx)
	defer client.AllowRebalance()
	if ctx.Err() != nil {
		return true
	}
	k.take(fetches)
	errs := fetches.Errors()
	for _, e := range errs {
		k.reading.fails(fmt.Errorf("partition %d: %w", e.Partition, e.Err))
	}
	if len(errs) == 0 {
		k.reading.works()
	}
	return len(errs) == 0 || fetches.NumRecords() > 0
}

// take puts the events of records into the queue. What cannot be read is told of and left behind.
func (k *Kafka) take(fetches kgo.Fetches) {
	bad := 0
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		for _, r := range p.Records {
			n := notification{ignored: 1} // MinIO tells of removed objects by records without a value
			if len(r.Value) > 0 {
				n = parseNotification(r.Value)
			}
			k.ledger.read(r.Partition, r.Offset, p.HighWatermark, k.o.Intake.tell(sourceKafka, n))
			if err := n.err(); err != nil {
				if bad++; bad == 1 {
					k.o.Intake.logger.Warn("a record of the Kafka topic of events cannot be read and is left out", "topic", r.Topic, "partition", r.Partition, "offset", r.Offset, "error", err)
				}
			}
		}
	})
	if bad > 1 {
		k.o.Intake.logger.Warn("more records of the Kafka topic of events cannot be read and are left out", "topic", k.o.Topic, "records", bad-1)
	}
}

func (k *Kafka) commitRegularly(ctx context.Context, client *kgo.Client) {
	tick := time.NewTicker(k.o.CommitInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			k.commit(ctx, client)
		}
	}
}

// commit tells the broker how far each partition is done with. What it could not tell it tells the next time.
func (k *Kafka) commit(ctx context.Context, client *kgo.Client) {
	k.committing.Lock()
	defer k.committing.Unlock()
	due, lags := k.ledger.due(k.o.Intake.queue.isSettled)
	for partition, lag := range lags {
		k.o.Intake.metrics.lag.WithLabelValues(k.o.Topic, strconv.Itoa(int(partition))).Set(float64(lag))
	}
	if len(due) == 0 {
		return
	}
	offsets := map[int32]kgo.EpochOffset{}
	for partition, offset := range due {
		offsets[partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaStopTimeout)
	defer cancel()
	var err error
	client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{k.o.Topic: offsets},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, failure error) {
			err = failure
			if err == nil {
				err = k.committed(due, response)
			}
		})
	switch {
	case err == nil:
		k.writing.works()
	case !errors.Is(err, context.Canceled):
		k.writing.fails(err)
	}
}

// committed notes what the broker took, and gives the errors of what it did not.
func (k *Kafka) committed(due map[int32]int64, response *kmsg.OffsetCommitResponse) error {
	var errs []error
	for _, topic := range response.Topics {
		for _, p := range topic.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				errs = append(errs, fmt.Errorf("partition %d: %w", p.Partition, err))
				continue
			}
			k.ledger.committed(p.Partition, due[p.Partition])
		}
	}
	return errors.Join(errs...)
}

// revoked is called before partitions go to another process of the group, or the group is left.
func (k *Kafka) revoked(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
	k.commit(ctx, client)
	k.lost(ctx, client, partitions)
}

// lost is called after partitions have gone. Their events that wait are run all the same.
func (k *Kafka) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	k.committing.Lock()
	defer k.committing.Unlock()
	gone := partitions[k.o.Topic]
	k.ledger.drop(gone)
	for _, partition := range gone {
		k.o.Intake.metrics.lag.DeleteLabelValues(k.o.Topic, strconv.Itoa(int(partition)))
	}
}

// connections watches whether brokers can be reached and let the source log in.
type connections struct {
	logger *slog.Logger

	mu      sync.Mutex
	brokers map[string]*outage
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c *connections) OnBrokerConnect(broker kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	address := net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port)))
	c.mu.Lock()
	o := c.brokers[address]
	if o == nil {
		o = &outage{what: "connecting to Kafka", logger: c.logger.With("broker", address)}
		c.brokers[address] = o
	}
	c.mu.Unlock()
	if err != nil {
		o.fails(err)
	} else {
		o.works()
	}
}

// outage logs when something begins to fail and when it works again, and not each failure between.
type outage struct {
	what   string
	logger *slog.Logger

	mu    sync.Mutex
	since time.Time
}

func (o *outage) fails(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.logger.Warn(o.what+" fails; trying again until it works", "error", err)
	}
}

func (o *outage) works() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.logger.Info(o.what+" works again", "outage", time.Since(o.since))
		o.since = time.Time{}
	}
}

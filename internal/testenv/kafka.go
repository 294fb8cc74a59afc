package testenv

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// KafkaServer is an Apache Kafka broker on the loopback network, alone in its cluster, without authentication.
type KafkaServer struct {
	// Addr is "host:port".
	Addr string

	java, jars, config string
	process            *process
}

// kafkaStartTimeout is how long a start may take; the broker is ready in some seconds where the machine is not busy.
const kafkaStartTimeout = 2 * time.Minute

// Kafka starts a Kafka broker that belongs to this test alone, without topics. It ends with the test. The jars are looked for in the folder that KAFKA_JARS
// names and in .tools/kafka, where "make tools" puts them, and java on PATH. Where they are lacking, or TWOFOLD_TEST_SKIP names "kafka", the test is skipped.
func Kafka(t testing.TB) *KafkaServer {
	t.Helper()
	skipUnwanted(t, "kafka")
	s := &KafkaServer{jars: os.Getenv("KAFKA_JARS")}
	if s.jars == "" {
		s.jars = filepath.Join(repositoryRoot(), ".tools", "kafka")
	}
	if found, _ := filepath.Glob(filepath.Join(s.jars, "kafka_*.jar")); len(found) == 0 {
		t.Skipf("the test needs the jars of Apache Kafka, and there are none in %s: run \"make tools\" where java and mvn are", s.jars)
	}
	var err error
	if s.java, err = exec.LookPath("java"); err != nil {
		t.Skipf("the test needs java, 17 or later, to run Apache Kafka: %v", err)
	}
	for range 5 { // somebody else may take a free port before the broker has it
		if err = s.create(t); err == nil {
			t.Cleanup(func() { s.process.stop() })
			return s
		}
	}
	t.Fatalf("start Apache Kafka: %v", err)
	return nil
}

// create makes an empty broker on free ports and starts it.
func (s *KafkaServer) create(t testing.TB) error {
	var controller string
	var err error
	if s.Addr, err = freeAddress(); err != nil {
		return err
	}
	if controller, err = freeAddress(); err != nil {
		return err
	}
	folder := t.TempDir()
	s.config = filepath.Join(folder, "server.properties")
	config := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
inter.broker.listener.name=PLAINTEXT
log.dirs=%[3]s
num.partitions=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
`, s.Addr, controller, filepath.Join(folder, "data"))
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		return err
	}
	var output bytes.Buffer
	format := s.run("kafka.tools.StorageTool", "format", "--cluster-id", "dHdvZm9sZC10ZXN0LWtmaw", "--config", s.config)
	format.Stdout, format.Stderr = &output, &output
	if err := format.Run(); err != nil {
		return fmt.Errorf("format its storage: %w\n%s", err, output.String())
	}
	return s.start()
}

// run gives a command that runs a class of the jars, in little memory and ready as soon as can be.
func (s *KafkaServer) run(class string, args ...string) *exec.Cmd {
	options := []string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", filepath.Join(s.jars, "*"), class}
	return exec.Command(s.java, append(options, args...)...)
}

// start runs the broker until it takes connections.
func (s *KafkaServer) start() error {
	command := s.run("kafka.Kafka", s.config)
	var log lockedBuffer
	command.Stdout, command.Stderr = &log, &log
	p, err := startProcess(command)
	if err != nil {
		return err
	}
	s.process = p
	ctx, cancel := context.WithTimeout(context.Background(), kafkaStartTimeout)
	defer cancel()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended (%w) and printed:\n%s", p.err, log.String())
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("it took no connection within %v and printed:\n%s", kafkaStartTimeout, log.String())
		case <-poll.C:
		}
	}
}

// Kill ends the broker at once, as a crash would.
func (s *KafkaServer) Kill() { s.process.stop() }

// Start starts a killed broker again, at the same address and with its data.
func (s *KafkaServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("start Apache Kafka again: %v", err)
	}
}

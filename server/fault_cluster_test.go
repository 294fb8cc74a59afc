package server_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/twofold-ml/twofold/internal/feature"
	"github.com/twofold-ml/twofold/internal/testenv"
)

// failover: the master dies while it is read and written, and its replica takes over; later the old master is there again, as a replica.
func failover(t *testing.T) {
	master := testenv.Redis(t)
	replica := testenv.RedisReplica(t, master)
	sentinel := testenv.RedisSentinel(t, master, "main", "sentinel down-after-milliseconds main 500", "sentinel failover-timeout main 3000")
	m := openMarket(t, "redis+sentinel://"+sentinel.Addr+"/main")
	m.fill()
	r := m.start(load{writes: true})
	r.well("before the fault")
	master.AwaitReplicated(t)
	master.Kill()
	r.failing("after the master died")
	r.well("after its replica took over")
	master.Restart(t)
	r.await("the old master has become a replica", func() bool {
		text, _ := master.Do(t, "INFO", "replication").(string)
		return strings.Contains(text, "role:slave") && strings.Contains(text, "master_link_status:up")
	})
	r.well("after the old master came back")
	replica.AwaitReplicated(t)
	replica.Kill()
	r.failing("after the second master died")
	r.well("after the first took over again")
	r.end()
}

// cluster starts a cluster of three nodes with data, and tells which stocks are not on the first of them.
func cluster(t *testing.T, args ...string) (m *market, nodes []*testenv.RedisServer, elsewhere []int64) {
	t.Helper()
	nodes = testenv.RedisCluster(t, 3, append(append([]string{"--cluster-node-timeout", "1000"}, durable...), args...)...)
	m = openMarket(t, "redis+cluster://"+nodes[0].Addr+","+nodes[1].Addr)
	m.fill()
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{nodes[1].Addr}})
	defer c.Close()
	for id := range int64(stocks) {
		column := feature.NewColumn(feature.Int64, 1)
		column.AppendInt64(id)
		key, ok := feature.AppendKey(nil, []*feature.Column{column}, 0)
		if !ok {
			t.Fatal("no key")
		}
		node, err := c.MasterForKey(t.Context(), "tf:stock:"+string(key))
		if err != nil {
			t.Fatal(err)
		}
		if node.Options().Addr != nodes[0].Addr {
			elsewhere = append(elsewhere, id)
		}
	}
	if len(elsewhere) == 0 || len(elsewhere) == stocks {
		t.Fatalf("%d stocks are not on the first node", len(elsewhere))
	}
	return m, nodes, elsewhere
}

// clusterLosesNode: requests for what other nodes have go on; of others what can be read is read, where that is allowed.
func clusterLosesNode(t *testing.T) {
	m, nodes, elsewhere := cluster(t, "--cluster-require-full-coverage", "no")
	all, rest := m.start(load{}), m.start(load{of: elsewhere, clients: 4})
	all.well("before the fault")
	nodes[0].Kill()
	lostNode(t, m, all, rest)
	nodes[0].Restart(t)
	all.well("after the node was started again")
	rest.end()
	all.end()
}

// clusterNodeFreezes is the same with a node that does not answer.
func clusterNodeFreezes(t *testing.T) {
	m, nodes, elsewhere := cluster(t, "--cluster-require-full-coverage", "no")
	all, rest := m.start(load{}), m.start(load{of: elsewhere, clients: 4})
	all.well("before the fault")
	nodes[0].Freeze(t)
	lostNode(t, m, all, rest)
	nodes[0].Thaw(t)
	all.well("after the thaw")
	rest.end()
	all.end()
}

// lostNode checks what is asked of a cluster while one of its nodes is lost.
func lostNode(t *testing.T, m *market, all, rest *running) {
	t.Helper()
	all.failing("while a node is lost")
	all.shed("while a node is lost")
	partial := all.partial.Load()
	all.await("partial answers come while a node is lost", func() bool { return all.partial.Load()-partial > 50 })
	rest.well("of other nodes while one is lost")
	failed := rest.unavailable.Load() + rest.late.Load() + rest.partial.Load()
	good := rest.good.Load()
	rest.await("many requests of other nodes are answered", func() bool { return rest.good.Load()-good > 300 })
	// Once a second one request is the probe of the lost node, but none of these.
	if n := rest.unavailable.Load() + rest.late.Load() + rest.partial.Load() - failed; n > 3 {
		t.Errorf("%d requests of other nodes failed while one was lost", n)
	}
}

// wholeClusterStops: by default a cluster that has lost a node answers nothing at all, after its node timeout.
func wholeClusterStops(t *testing.T) {
	m, nodes, elsewhere := cluster(t)
	r := m.start(load{of: elsewhere})
	r.well("before the fault")
	nodes[0].Kill()
	r.failing("after the cluster has found out")
	nodes[0].Restart(t)
	r.well("after the node was started again")
	r.end()
}

//! A Redis Cluster: three masters, and a replica of each.

use redis::Value;

use crate::poll;
use crate::port::Port;
use crate::redis_server::RedisServer;
use crate::scratch::Scratch;

const MASTERS: usize = 3;
const SLOTS: usize = 16_384;

/// How long a silent node counts as alive, in milliseconds.
const NODE_TIMEOUT: &str = "1000";

/// Six redis-servers in cluster mode.
#[derive(Debug)]
pub struct RedisCluster {
    /// The nodes. At the start the first three are masters, and the others replicas of
    /// them in the same order.
    pub nodes: Vec<RedisServer>,
    _buses: Vec<Port>,
}

impl RedisCluster {
    /// Starts it, and waits until every node says that it is well.
    pub async fn start() -> Self {
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..2 * MASTERS {
            let bus = Port::reserve();
            nodes.push(node(&bus));
            buses.push(bus);
        }
        for (at, node) in nodes.iter().enumerate() {
            node.ready().await;
            node.command::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        for (at, node) in nodes.iter().take(MASTERS).enumerate() {
            let (from, to) = (at * SLOTS / MASTERS, (at + 1) * SLOTS / MASTERS - 1);
            let range = [from.to_string(), to.to_string()];
            node.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]);
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port().to_string(), bus.number().to_string());
            nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
        let this = Self {
            nodes,
            _buses: buses,
        };
        this.wait_for("nodes that know each other", |node| {
            let known: String = node.try_command(&["CLUSTER", "NODES"]).ok()?;
            let count = known.lines().filter(|it| it.contains(" connected")).count();
            (count == 2 * MASTERS && !known.contains("handshake")).then_some(())
        })
        .await;
        for at in 0..MASTERS {
            let id: String = this.nodes[at].command(&["CLUSTER", "MYID"]);
            this.nodes[MASTERS + at].command::<()>(&["CLUSTER", "REPLICATE", &id]);
        }
        this.settled().await;
        this
    }

    /// The URLs of three nodes, masters at the start.
    pub fn urls(&self) -> Vec<String> {
        let url = |node: &RedisServer| format!("redis://{}", node.address());
        self.nodes.iter().take(MASTERS).map(url).collect()
    }

    /// The table of a node's configuration that leads to the cluster.
    pub fn tables(&self) -> String {
        format!("[redis]\nurls = {:?}\ncluster = true\n", self.urls())
    }

    /// Every object in it whose name holds this, on the masters and replicas that answer.
    pub fn objects(&self, part: &str) -> Vec<String> {
        let living = self.nodes.iter();
        let names = living.filter_map(|node| node.try_command(&["KEYS", "weir:*|*"]).ok());
        let names: Vec<Vec<String>> = names.collect();
        let named = names.into_iter().flatten();
        // The lease of whoever fetches one is none.
        named
            .filter(|name| name.contains(part) && !name.ends_with(":lease"))
            .collect()
    }

    /// Waits until every node says that the cluster is well, and every replica is in step.
    pub async fn settled(&self) {
        self.wait_for("a cluster that is well", |node| {
            let info: String = node.try_command(&["CLUSTER", "INFO"]).ok()?;
            let replication: String = node.try_command(&["INFO", "replication"]).ok()?;
            let nodes: String = node.try_command(&["CLUSTER", "NODES"]).ok()?;
            let replicas = nodes.lines().filter(|line| line.contains("slave")).count();
            let well = info.contains("cluster_state:ok")
                && !nodes.contains("fail")
                && replicas == MASTERS
                && !replication.contains("master_link_status:down");
            well.then_some(())
        })
        .await;
    }

    /// Which node is the master for a key, as most living nodes see it.
    pub fn master_for(&self, key: &str) -> Option<usize> {
        let seen: Vec<usize> = self
            .nodes
            .iter()
            .filter_map(|node| {
                let slot: u16 = node.try_command(&["CLUSTER", "KEYSLOT", key]).ok()?;
                self.owner(node, slot)
            })
            .collect();
        let most = |at: &&usize| seen.iter().filter(|other| other == at).count() * 2 > seen.len();
        seen.iter().find(most).copied()
    }

    fn owner(&self, node: &RedisServer, slot: u16) -> Option<usize> {
        type Range = (u16, u16, Value);
        let ranges: Vec<Vec<Value>> = node.try_command(&["CLUSTER", "SLOTS"]).ok()?;
        for range in ranges {
            let mut parts = range.into_iter();
            let range: Range = (
                redis::from_redis_value(parts.next()?).ok()?,
                redis::from_redis_value(parts.next()?).ok()?,
                parts.next()?,
            );
            if (range.0..=range.1).contains(&slot) {
                let mut master: Vec<Value> = redis::from_redis_value(range.2).ok()?;
                let port: u16 = redis::from_redis_value(master.swap_remove(1)).ok()?;
                return self.nodes.iter().position(|node| node.port() == port);
            }
        }
        None
    }

    /// Waits until another node than `from` is the master for a key; which one.
    pub async fn promoted(&self, key: &str, from: usize) -> usize {
        poll::until("a new master", async || {
            let now = self.master_for(key).filter(|now| *now != from)?;
            let role: Vec<Value> = self.nodes[now].try_command(&["ROLE"]).ok()?;
            let role: String = redis::from_redis_value(role.into_iter().next()?).ok()?;
            (role == "master").then_some(now)
        })
        .await
    }

    /// A replica of this master, as it says itself.
    pub fn replica_of(&self, master: usize) -> Option<usize> {
        let port = self.nodes[master].port();
        self.nodes.iter().position(|node| {
            let info: Result<String, _> = node.try_command(&["INFO", "replication"]);
            info.is_ok_and(|info| {
                info.contains("role:slave") && info.contains(&format!("master_port:{port}\r"))
            })
        })
    }

    /// Has a replica take over from its healthy master. See [`RedisCluster::promoted`].
    pub fn fail_over_to(&self, replica: usize) {
        self.nodes[replica].command::<()>(&["CLUSTER", "FAILOVER"]);
    }

    /// The id of a node.
    pub fn id(&self, at: usize) -> String {
        self.nodes[at].command(&["CLUSTER", "MYID"])
    }

    async fn wait_for(&self, what: &str, probe: impl Fn(&RedisServer) -> Option<()>) {
        for node in &self.nodes {
            poll::until(what, async || probe(node)).await;
        }
    }
}

fn node(bus: &Port) -> RedisServer {
    let bus = bus.number().to_string();
    let args = [
        ["--cluster-enabled", "yes"],
        ["--cluster-port", &bus],
        ["--cluster-node-timeout", NODE_TIMEOUT],
        ["--cluster-replica-validity-factor", "0"],
        ["--repl-diskless-sync-delay", "0"],
        ["--repl-ping-replica-period", "1"],
    ];
    RedisServer::spawn_with(&args.concat(), Scratch::new())
}

//! Connections, as the pool makes and judges them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, RedisError};

/// How long a connection may take to be made. No request waits for it longer than its
/// own deadline.
const CONNECT: Duration = Duration::from_millis(500);

/// Makes connections for the pool.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    client: Client,
    /// Grows when connections made before must be taken for dead.
    generation: Arc<AtomicU64>,
}

/// A connection of the pool.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) link: MultiplexedConnection,
    generation: u64,
    broken: bool,
}

impl Manager {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            generation: Arc::default(),
        }
    }

    /// A connection outside the pool. It has no deadline of its own for answers.
    pub(super) async fn dedicated(&self) -> Result<MultiplexedConnection, RedisError> {
        // The deadline is the caller's; a response timeout here would cut blocking reads.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Whether the connection was made before others like it were found dead.
    pub(super) fn outdated(&self, connection: &Connection) -> bool {
        connection.generation != self.generation.load(Ordering::Acquire)
    }

    /// All connections that exist now are taken for dead.
    pub(super) fn outdate_all(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The connection is dead, and so are those of its generation: Redis went away.
    pub(super) fn outdate_with(&self, connection: &Connection) {
        let made = connection.generation;
        // If it fails, someone else has found out already.
        let _ =
            self.generation
                .compare_exchange(made, made + 1, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Connection {
    /// It is not used again: an answer may still be under way.
    pub(super) fn discard(&mut self) {
        self.broken = true;
    }
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = RedisError;

    async fn connect(&self) -> Result<Connection, RedisError> {
        let generation = self.generation.load(Ordering::Acquire);
        Ok(Connection {
            link: self.dedicated().await?,
            generation,
            broken: false,
        })
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), RedisError> {
        // Not called: test_on_check_out is off, since it would double each call's time.
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken || self.outdated(connection)
    }
}

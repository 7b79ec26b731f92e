//! A TCP relay in front of a server, which can be cut: a partition of the network.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on until it is cut.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    cut: watch::Sender<bool>,
}

impl Relay {
    /// A relay to `target` (`127.0.0.1:6379`).
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port for a relay");
        let port = listener.local_addr().expect("a relay's address").port();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(accept(listener, target, is_cut));
        Self { port, cut }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends all connections and takes no more.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: String, mut is_cut: watch::Receiver<bool>) {
    loop {
        let mut cut = is_cut.clone();
        let accepted = tokio::select! {
            _ = is_cut.wait_for(|cut| *cut) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((mut near, _)) = accepted else { return };
        let target = target.clone();
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(target).await else {
                return;
            };
            tokio::select! {
                _ = cut.wait_for(|cut| *cut) => {}
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}

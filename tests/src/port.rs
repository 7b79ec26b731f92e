//! Ports that no other test takes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};

/// A free TCP port on 127.0.0.1, ours until dropped.
///
/// It lies below the range the kernel gives to outgoing connections, and a locked file
/// keeps other test processes off it: a node that restarts finds its port free.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port. Panics after 1,000 tries.
    pub fn reserve() -> Self {
        let dir = std::env::temp_dir().join("weir-test-ports");
        std::fs::create_dir_all(&dir).expect("a directory for port locks");
        let first = std::process::id() % 10_000;
        for step in 0..1_000 {
            let number = 20_000 + ((first * 7 + step * 13) % 10_000) as u16;
            let Ok(lock) = File::create(dir.join(number.to_string())) else {
                continue;
            };
            if lock.try_lock().is_err() {
                continue;
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between 20000 and 29999 on 127.0.0.1")
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

//! The addresses that the node listens on.

use std::net::SocketAddr;

use super::super::errors::Findings;
use super::super::raw::Root;

/// Checks that there is one, and that no two collide.
pub(super) fn check(root: &Root, findings: &mut Findings<'_>) {
    let cleartext = root.listen.iter();
    let secured = root.tls.iter().filter_map(|tls| tls.value.listen.as_ref());
    let mut all: Vec<_> = cleartext
        .chain(secured)
        .flat_map(|listen| &listen.value.0.values)
        .collect();
    if let Some(listen) = &root.listen
        && listen.value.0.is_empty
        && root.tls.is_none()
    {
        findings.error(
            &listen.place,
            "the list is empty",
            "write listen = [\"127.0.0.1:8080\"]",
        );
    }
    all.extend(
        root.admin
            .iter()
            .filter_map(|admin| admin.value.listen.as_ref()),
    );
    for (index, later) in all.iter().enumerate() {
        let collides = all[..index]
            .iter()
            .find(|earlier| collide(earlier.value, later.value));
        if let Some(earlier) = collides {
            let wider = later.value.ip() != earlier.value.ip();
            let hint = if wider {
                format!(
                    "{} takes the port on all interfaces; remove one or change its port",
                    {
                        if later.value.ip().is_unspecified() {
                            later.value
                        } else {
                            earlier.value
                        }
                    }
                )
            } else {
                "give each listener a port of its own".to_owned()
            };
            let owner = if earlier.place.given {
                format!(
                    "{} on line {}",
                    earlier.place.path,
                    findings.line(&earlier.place)
                )
            } else {
                "listen, by default".to_owned()
            };
            findings.error(
                &later.place,
                format!("port {} is taken by {owner}", later.value.port()),
                hint,
            );
        }
    }
}

/// Whether the system would refuse to listen on both. `[::]` takes IPv4 too.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() != 0
        && a.port() == b.port()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

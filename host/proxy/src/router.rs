//! From authority and path to a route: the most specific pattern wins, and a route
//! with a host wins over one without.

use std::collections::HashMap;
use std::sync::Arc;

use matchit::{InsertError, MatchError};

/// A pattern that cannot be added.
#[derive(Debug, thiserror::Error)]
#[error("path pattern {path:?}{}: {source}", .host.as_deref().map(|h| format!(" of host {h}")).unwrap_or_default())]
pub struct PatternError {
    /// The route's host.
    pub host: Option<String>,
    /// The pattern.
    pub path: String,
    source: InsertError,
}

/// What a request was matched to.
#[derive(Debug)]
pub struct Matched<'router, 'path, T> {
    /// The route.
    pub route: &'router Arc<T>,
    /// Pattern parameters: name and percent-encoded value, in order.
    pub params: matchit::Params<'router, 'path>,
}

#[derive(Debug)]
struct Paths<T> {
    router: matchit::Router<Arc<T>>,
    /// Folders of catch-alls, to be added when every route of its own has its place.
    folders: Vec<(String, Arc<T>)>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self {
            router: matchit::Router::new(),
            folders: Vec::new(),
        }
    }
}

/// All routes of a generation.
#[derive(Debug)]
pub struct Router<T> {
    hosts: HashMap<String, Paths<T>>,
    any: Paths<T>,
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self {
            hosts: HashMap::new(),
            any: Paths::default(),
        }
    }
}

impl<T> Router<T> {
    /// Adds a route. `path` is in the form `/users/{id}` or `/files/{*rest}`; the latter
    /// matches `/files/` too, with an empty `rest`.
    ///
    /// # Errors
    /// When the pattern is malformed or clashes with one added before.
    pub fn insert(
        &mut self,
        host: Option<&str>,
        path: &str,
        route: &Arc<T>,
    ) -> Result<(), PatternError> {
        let paths = match host {
            Some(host) => self.hosts.entry(host.to_ascii_lowercase()).or_default(),
            None => &mut self.any,
        };
        let error = |source| PatternError {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            source,
        };
        paths
            .router
            .insert(path, Arc::clone(route))
            .map_err(error)?;
        // matchit's catch-all wants at least one byte; people mean the folder as well.
        if let Some(start) = path.rfind("/{*") {
            paths
                .folders
                .push((path[..=start].to_owned(), Arc::clone(route)));
        }
        Ok(())
    }

    /// Ends the adding: lets catch-alls match their empty rest where no route of its own
    /// does.
    ///
    /// # Errors
    /// When a folder clashes with another pattern.
    pub fn finish(&mut self) -> Result<(), PatternError> {
        let hosts = self
            .hosts
            .iter_mut()
            .map(|(host, paths)| (Some(host), paths));
        for (host, paths) in hosts.chain([(None, &mut self.any)]) {
            for (path, route) in std::mem::take(&mut paths.folders) {
                match paths.router.insert(&path, route) {
                    Ok(()) | Err(InsertError::Conflict { .. }) => {}
                    Err(source) => {
                        return Err(PatternError {
                            host: host.cloned(),
                            path,
                            source,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// The route for an authority (lower case, no default port) and a path.
    pub fn find<'router, 'path>(
        &'router self,
        host: &str,
        path: &'path str,
    ) -> Option<Matched<'router, 'path, T>> {
        let of_host = (!self.hosts.is_empty())
            .then(|| self.paths_of(host))
            .flatten()
            .and_then(|paths| paths.at(path));
        of_host.or_else(|| self.any.at(path))
    }

    fn paths_of(&self, host: &str) -> Option<&Paths<T>> {
        // A route's host without a port serves that name on every port.
        self.hosts.get(host).or_else(|| {
            let (name, port) = host.rsplit_once(':')?;
            let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            is_port.then(|| self.hosts.get(name)).flatten()
        })
    }
}

impl<T> Paths<T> {
    fn at<'router, 'path>(&'router self, path: &'path str) -> Option<Matched<'router, 'path, T>> {
        match self.router.at(path) {
            Ok(found) => Some(Matched {
                route: found.value,
                params: found.params,
            }),
            Err(MatchError::NotFound) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(routes: &[(Option<&str>, &str)]) -> Router<String> {
        let mut router = Router::default();
        for (host, path) in routes {
            let name = format!("{}{path}", host.unwrap_or_default());
            router.insert(*host, path, &Arc::new(name)).unwrap();
        }
        router.finish().unwrap();
        router
    }

    fn find(router: &Router<String>, host: &str, path: &str) -> Option<String> {
        router.find(host, path).map(|found| (**found.route).clone())
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let router = router(&[
            (None, "/{*rest}"),
            (None, "/users/{id}"),
            (None, "/users/me"),
        ]);
        assert_eq!(find(&router, "x", "/users/me").unwrap(), "/users/me");
        assert_eq!(find(&router, "x", "/users/42").unwrap(), "/users/{id}");
        assert_eq!(find(&router, "x", "/users/42/photo").unwrap(), "/{*rest}");
        assert_eq!(find(&router, "x", "/").unwrap(), "/{*rest}");
    }

    #[test]
    fn a_route_with_a_host_wins_and_others_fall_back() {
        let router = router(&[(Some("a.example"), "/x"), (None, "/{*rest}")]);
        assert_eq!(find(&router, "a.example", "/x").unwrap(), "a.example/x");
        assert_eq!(
            find(&router, "a.example:8080", "/x").unwrap(),
            "a.example/x"
        );
        assert_eq!(find(&router, "a.example", "/y").unwrap(), "/{*rest}");
        assert_eq!(find(&router, "b.example", "/x").unwrap(), "/{*rest}");
    }

    #[test]
    fn no_route_is_no_route() {
        let router = router(&[(Some("a.example"), "/x")]);
        assert!(find(&router, "b.example", "/x").is_none());
        assert!(find(&router, "a.example", "/y").is_none());
    }

    #[test]
    fn an_explicit_folder_route_is_kept() {
        for routes in [
            [(None, "/a/"), (None, "/a/{*rest}")],
            [(None, "/a/{*rest}"), (None, "/a/")],
        ] {
            let router = router(&routes);
            assert_eq!(find(&router, "x", "/a/").unwrap(), "/a/");
            assert_eq!(find(&router, "x", "/a/b").unwrap(), "/a/{*rest}");
        }
    }
}

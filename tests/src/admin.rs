//! The control plane of a node, as a client sees it.

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::answer::{self, Answer};

/// A client of one node's admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    base: String,
    client: Client,
}

impl Admin {
    /// A client of the listener at `base`, `http://127.0.0.1:9900`.
    pub fn new(base: String) -> Self {
        Self {
            base,
            client: answer::client(),
        }
    }

    /// The listener's address as a URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET of a path. Fails where the node is not there.
    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        Answer::of(self.client.get(format!("{}{path}", self.base))).await
    }

    /// GET of a path.
    pub async fn get(&self, path: &str) -> Answer {
        let answer = self.try_get(path).await;
        answer.unwrap_or_else(|error| panic!("admin GET {path}: {error}"))
    }

    /// POST of a JSON text, which need not be JSON.
    pub async fn post(&self, path: &str, body: impl Into<String>) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json");
        let answer = Answer::of(request.body(body.into())).await;
        answer.unwrap_or_else(|error| panic!("admin POST {path}: {error}"))
    }

    /// `POST /v1/invalidate`, which must answer 200. Returns the receipt.
    pub async fn invalidate(&self, selectors: Value) -> Value {
        let answer = self.post("/v1/invalidate", selectors.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Hard purge by one tag.
    pub async fn purge_tag(&self, tag: &str) -> Value {
        self.invalidate(json!({ "tags": [tag] })).await
    }

    /// `POST /v1/events`, which must answer 200.
    pub async fn event(&self, kind: &str, data: Value) -> Value {
        let body = json!({ "type": kind, "data": data });
        let answer = self.post("/v1/events", body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// `PUT /v1/policies/{name}`.
    pub async fn put_policy(&self, name: &str, component: Vec<u8>) -> Answer {
        let url = format!("{}/v1/policies/{name}", self.base);
        let request = self.client.request(Method::PUT, url);
        let request = request.header("content-type", "application/wasm");
        let answer = Answer::of(request.body(component)).await;
        answer.unwrap_or_else(|error| panic!("admin PUT of policy {name}: {error}"))
    }

    /// The entry of one policy in `GET /v1/policies`, whatever the list hangs in.
    pub async fn policy(&self, name: &str) -> Value {
        let all = self.get("/v1/policies").await.json();
        let list = all.get("policies").unwrap_or(&all);
        let found = match list {
            Value::Array(list) => list.iter().find(|entry| entry["name"] == name),
            other => other.get(name),
        };
        found
            .cloned()
            .unwrap_or_else(|| panic!("no policy {name} in {all}"))
    }

    /// The live version of one policy.
    pub async fn version(&self, name: &str) -> String {
        let entry = self.policy(name).await;
        let version = entry["version"].as_str();
        version
            .unwrap_or_else(|| panic!("no version in {entry}"))
            .to_owned()
    }

    /// The sum of a metric's series that carry all of `labels`; 0 when there is none.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.get("/metrics").await.text(), name, labels)
    }
}

fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    text.lines()
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (series, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let carried = |&(label, value): &(&str, &str)| {
                let pair = format!("{label}=\"{value}");
                let mut parts = series.split("\",");
                parts.any(|part| part.trim_end_matches('"') == pair)
            };
            labels
                .iter()
                .all(carried)
                .then(|| value.split(' ').next()?.parse::<f64>().ok())?
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_the_series_with_the_labels() {
        let text = "# HELP a_total x\na_total{route=\"r\",result=\"hit\"} 3\n\
            a_total{route=\"r\",result=\"miss\"} 4\na_total{route=\"rr\",result=\"hit\"} 5\n\
            a_total_more 9\nb 7\n";
        assert_eq!(sum(text, "a_total", &[]), 12.0);
        assert_eq!(sum(text, "a_total", &[("route", "r")]), 7.0);
        assert_eq!(
            sum(text, "a_total", &[("route", "r"), ("result", "hit")]),
            3.0
        );
        assert_eq!(sum(text, "b", &[]), 7.0);
        assert_eq!(sum(text, "c", &[]), 0.0);
    }
}

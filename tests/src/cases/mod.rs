//! The table of HTTP cases: data in `tests/cases/http`, one file for each topic.
//!
//! A case is a list of steps. A step is a request, what the origin will answer if it is
//! asked, and what must come of it: where the answer came from, its fields on both sides,
//! its body, its Cache-Status. [`table`] has the format, field by field.
//!
//! Time is made, not waited for: a response arrives already old (`Age`, `Date`), and only
//! what must become stale while it is stored waits for that.

pub mod check;
pub mod load;
pub mod origin;
pub mod page;
pub mod run;
pub mod table;
pub mod text;
pub mod wire;

pub use load::load;
pub use run::{Report, run};
pub use table::{Case, Group, Level};

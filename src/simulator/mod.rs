//! A local Claude API.

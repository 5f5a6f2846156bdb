//! Everything else that can go wrong: an ailing provider, locked databases, budgets, signals,
//! broken configurations; and what must hold of order and fairness meanwhile.

mod answers;
mod budgets;
mod daemons;
mod gates;
mod locks;
mod order;
mod pauses;
mod reach;
mod stop;
mod storms;
mod system;
mod wake;

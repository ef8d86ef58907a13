//! What services promise, over jobs and ticks in memory.

mod effects;
mod every_process;
mod faults;
mod health;
mod maintenance;
mod many;
mod operations;
mod overlaps;
mod processes;
mod registration;
mod runs;
mod shutdown;
mod testing;

//! The process: worker threads, the queue back to the main thread, work per frame, logging, standard streams.

pub mod frame_hook;
pub mod log_bridge;
mod log_filter;
mod log_line;
pub mod main_thread_queue;
pub mod network_interfaces;
pub mod optional_object;
pub mod recent_errors;
pub mod standard_streams;
pub mod thread_check;
pub mod worker_threads;

pub use worker_threads::background_tasks;

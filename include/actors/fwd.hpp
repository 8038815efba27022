/// Names of the library's types, for headers that only mention them.
#pragma once

namespace actors {

template <class... Ms>
class actor_ref;
class any_actor_ref;
class actor_system;
template <class... Ms>
class context;
template <class T = void>
class task;
template <class T>
class result;
template <class T>
class operation;
template <class T>
class reply_to;
class exit_reason;
class failure;
class failures;
class mailbox;
struct actor_snapshot;
struct dead_letter;
struct ended;
struct lifecycle_event;
struct spawn_options;
struct system_options;
struct trace_event;

namespace detail {
class cell;
class cell_base;
class scheduler;
class system_core;
struct ask_state;
struct envelope;
struct fiber;
struct receiver;
struct system_node;
struct timer;
struct wait;
}  // namespace detail

}  // namespace actors

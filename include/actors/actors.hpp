/// All of the library but the bridge to Asio (<actors/asio.hpp>) and the test
/// kit (<actors/testing.hpp>).
#pragma once

#include "actors/child_task.hpp"
#include "actors/context.hpp"
#include "actors/dead_letter.hpp"
#include "actors/dispatcher.hpp"
#include "actors/error.hpp"
#include "actors/exit_reason.hpp"
#include "actors/inbox.hpp"
#include "actors/message.hpp"
#include "actors/offload.hpp"
#include "actors/operation.hpp"
#include "actors/ref.hpp"
#include "actors/reply_to.hpp"
#include "actors/result.hpp"
#include "actors/spawn.hpp"
#include "actors/system.hpp"
#include "actors/task.hpp"
#include "actors/task_group.hpp"
#include "actors/version.hpp"
#include "actors/when.hpp"

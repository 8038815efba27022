/// The networking library, under the one name that our sources use for it.
#pragma once

#include <asio.hpp>

namespace actors {
namespace net = asio;
}

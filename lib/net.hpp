/// The networking library, under the one name that our sources use for it.
#pragma once

#include <cstddef>  // before Asio, see <actors/asio.hpp>

#include <asio.hpp>

namespace actors {
namespace net = asio;
}

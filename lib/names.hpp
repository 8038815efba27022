/// Type names for people.
#pragma once

#include <string>
#include <typeinfo>

namespace actors::detail {

/// The name as in the source, where the platform can tell.
std::string type_name(const std::type_info& type);

}  // namespace actors::detail

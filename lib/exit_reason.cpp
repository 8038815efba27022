#include "actors/exit_reason.hpp"

#include <typeinfo>

#include "names.hpp"

namespace actors {

std::string exit_reason::to_string() const {
  switch (kind_) {
    case normal:
      return "normal";
    case failed:
      return "failed: " + detail::describe(error_);
    case killed:
      return "killed";
    case abandoned:
      return "abandoned";
    case not_started:
      return "not started";
  }
  return "unknown";
}

namespace detail {

std::string describe(const std::exception_ptr& error) {
  if (!error) return "no exception";
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return type_name(typeid(e)) + ": " + e.what();
  } catch (...) {
    return "an exception that is no std::exception";
  }
}

}  // namespace detail

}  // namespace actors

/// A value or the reason why there is none: the error style without throw.
#pragma once

#include <exception>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>

#include "actors/error.hpp"

namespace actors {

namespace detail {
template <class T>
using value_or_unit = std::conditional_t<std::is_void_v<T>, std::monostate, T>;
}  // namespace detail

/// A `T`, a `std::error_code` or a `std::exception_ptr`.
///
/// A handler returns it to answer a question with an error while its actor
/// stays well; `co_await as_result(op)` gives it instead of throwing.
template <class T>
class [[nodiscard]] result {
  static_assert(!std::is_same_v<T, std::error_code> &&
                    !std::is_same_v<T, errc> &&
                    !std::is_same_v<T, std::exception_ptr>,
                "a value that is an error cannot be told from an error: put "
                "it into a struct of its own");

 public:
  /// What it may have.
  using value_type = T;
  /// What is there when `T` is `void`: `std::monostate`.
  using stored_type = detail::value_or_unit<T>;

  /// Success, of `void`.
  result() requires std::is_void_v<T> : state_{std::in_place_index<0>} {}
  /// A value.
  template <class U = stored_type>
  result(U&& value) requires(!std::is_void_v<T> &&
                             std::is_convertible_v<U&&, stored_type> &&
                             !std::is_same_v<std::remove_cvref_t<U>, result>)
      : state_{std::in_place_index<0>, std::forward<U>(value)} {}
  /// An error. A code of zero is a programming mistake and counts as
  /// `errc::no_reply`.
  result(std::error_code error)
      : state_{std::in_place_index<1>,
               error ? error : make_error_code(errc::no_reply)} {}
  /// One of the library's errors.
  result(errc error) : result{make_error_code(error)} {}
  /// An exception, which `value` throws again.
  result(std::exception_ptr error)
      : state_{std::in_place_index<2>, std::move(error)} {}

  /// Whether there is a value.
  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  /// The value; throws what stands in its place: `actor_error`,
  /// `std::system_error` or the exception kept.
  T value() && {
    check();
    if constexpr (!std::is_void_v<T>) return std::move(std::get<0>(state_));
  }
  auto value() const& -> std::conditional_t<std::is_void_v<T>, void,
                                            const stored_type&> {
    check();
    if constexpr (!std::is_void_v<T>) return std::get<0>(state_);
  }
  /// Unchecked access, as in `std::optional`.
  stored_type& operator*() noexcept { return *std::get_if<0>(&state_); }
  const stored_type& operator*() const noexcept {
    return *std::get_if<0>(&state_);
  }
  stored_type* operator->() noexcept { return std::get_if<0>(&state_); }

  /// The code; zero when there is a value, `errc::actor_failed` when an
  /// exception other than a `std::system_error` is kept.
  std::error_code error() const noexcept {
    if (auto* code = std::get_if<1>(&state_)) return *code;
    if (!std::get_if<2>(&state_)) return {};
    try {
      std::rethrow_exception(*std::get_if<2>(&state_));
    } catch (const std::system_error& e) {
      return e.code();
    } catch (...) {
      return make_error_code(errc::actor_failed);
    }
  }
  /// The exception kept; null otherwise.
  std::exception_ptr exception() const noexcept {
    auto* e = std::get_if<2>(&state_);
    return e ? *e : nullptr;
  }

 private:
  void check() const {
    if (auto* code = std::get_if<1>(&state_)) detail::throw_error(*code);
    if (auto* e = std::get_if<2>(&state_)) std::rethrow_exception(*e);
  }

  std::variant<stored_type, std::error_code, std::exception_ptr> state_;
};

namespace detail {
template <class T>
struct is_result : std::false_type {};
template <class T>
struct is_result<result<T>> : std::true_type {};
}  // namespace detail

}  // namespace actors

// What the four servers share: their commands and their command line. A client
// sends lines, and gets a line for each:
//
//   set KEY VALUE    "ok"
//   get KEY          the value, or "none"
//   count            how many keys there are
//   watch KEY        "ok", and from then on "changed KEY VALUE" at each change
//   quit             "bye", and the end of the connection
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

struct command {
  std::string verb;
  std::string key;
  std::string value;
};

inline constexpr std::size_t longest_line = 4096;

// Takes the first `size` characters of what has been read, a line and its end,
// and splits them at the first two spaces.
inline command take_command(std::string& input, std::size_t size) {
  std::string_view rest{input.data(), size - 1};
  if (rest.ends_with('\r')) rest.remove_suffix(1);
  const auto word = [&rest] {
    const std::string_view found = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(rest.size(), found.size() + 1));
    return std::string{found};
  };
  command c;
  c.verb = word();
  c.key = word();
  c.value = rest;
  input.erase(0, size);
  return c;
}

// The PORT that a server is given as its only argument.
inline std::optional<std::uint16_t> parse_port(int argc, char** argv) {
  if (argc != 2) return {};
  const std::string_view text = argv[1];
  std::uint16_t port = 0;
  auto [end, error] = std::from_chars(text.begin(), text.end(), port);
  if (error != std::errc{} || end != text.end() || port == 0) return {};
  return port;
}

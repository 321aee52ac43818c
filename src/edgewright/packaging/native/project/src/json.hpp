// Reads the JSON that Edgewright writes: objects, arrays, texts, numbers, true, false, null.
#pragma once
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace edgewright {

struct Json {
  enum class Kind { null, boolean, number, text, array, object } kind = Kind::null;
  double number = 0;
  std::string text;
  std::vector<Json> items;
  std::map<std::string, Json> members;

  const Json& operator[](const std::string& name) const {
    const auto found = members.find(name);
    if (found == members.end()) throw std::runtime_error("the manifest has no " + name);
    return found->second;
  }
  int integer() const { return static_cast<int>(number); }
};

class JsonReader {
 public:
  explicit JsonReader(const std::string& text) : at_(text.c_str()), end_(at_ + text.size()) {}
  Json read() {
    Json value;
    const char first = peek();
    if (first == '{') {
      value.kind = Json::Kind::object;
      for (bool more = open('{', '}'); more; more = next('}')) {
        const std::string name = read_text();
        expect(':');
        value.members[name] = read();
      }
    } else if (first == '[') {
      value.kind = Json::Kind::array;
      for (bool more = open('[', ']'); more; more = next(']')) value.items.push_back(read());
    } else if (first == '"') {
      value.kind = Json::Kind::text;
      value.text = read_text();
    } else if (first == 't' || first == 'f' || first == 'n') {
      value.kind = first == 'n' ? Json::Kind::null : Json::Kind::boolean;
      value.number = first == 't';
      while (at_ < end_ && *at_ >= 'a' && *at_ <= 'z') at_++;
    } else {
      char* rest = nullptr;
      value.kind = Json::Kind::number;
      value.number = std::strtod(at_, &rest);
      if (rest == at_) fail();
      at_ = rest;
    }
    return value;
  }

 private:
  [[noreturn]] static void fail() { throw std::runtime_error("the manifest is not JSON"); }
  char peek() {
    while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t' || *at_ == '\r')) at_++;
    if (at_ == end_) fail();
    return *at_;
  }
  void expect(char wanted) {
    if (peek() != wanted) fail();
    at_++;
  }
  bool open(char start, char stop) {
    expect(start);
    if (peek() != stop) return true;
    at_++;
    return false;
  }
  bool next(char stop) {
    if (peek() == ',') {
      at_++;
      return true;
    }
    expect(stop);
    return false;
  }
  std::string read_text() {
    expect('"');
    std::string text;
    while (at_ < end_ && *at_ != '"') {
      if (*at_ != '\\') {
        text += *at_++;
        continue;
      }
      if (++at_ == end_) fail();
      const char code = *at_++;
      if (code == 'u') append_code(text);
      else text += code == 'n' ? '\n' : code == 't' ? '\t' : code == 'r' ? '\r' : code == 'b' ? '\b' : code == 'f' ? '\f' : code;
    }
    expect('"');
    return text;
  }
  // A code below 65,536 as UTF-8; Edgewright writes all others as they are.
  void append_code(std::string& text) {
    if (end_ - at_ < 4) fail();
    const unsigned long code = std::strtoul(std::string(at_, 4).c_str(), nullptr, 16);
    at_ += 4;
    if (code < 0x80) text += static_cast<char>(code);
    else if (code < 0x800) text += {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    else
      text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
               static_cast<char>(0x80 | (code & 63))};
  }

  const char* at_;
  const char* end_;
};

}  // namespace edgewright

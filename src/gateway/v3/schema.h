// gateway/v3/schema.h: the messages of the API as tables, for reading and writing them as JSON.
//
// Made once, from the descriptors of src/proto. A table knows nothing but what its messages have: no maps, no groups,
// no numbers of fixed length or with a fraction.
//
// Threads: any; immutable once made.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace google::protobuf {
class Descriptor;
}  // namespace google::protobuf

namespace cairn::gateway::v3 {

struct MessageType;

struct EnumType {
  std::vector<std::pair<std::string, int32_t>> values;  // in the order of the declaration

  // Null: there is none.
  [[nodiscard]] const std::string* name_of(int32_t number) const;
  [[nodiscard]] const int32_t* number_of(std::string_view name) const;
};

struct Field {
  enum class Kind : uint8_t { kBool, kInt32, kInt64, kUint32, kUint64, kEnum, kString, kBytes, kMessage };

  std::string name;       // as declared: "create_revision"
  std::string json_name;  // "createRevision"
  uint32_t number = 0;
  Kind kind = Kind::kBool;
  bool repeated = false;
  int oneof = -1;          // which of the message's
  std::string oneof_name;  // with the package
  const MessageType* message = nullptr;
  const EnumType* enumeration = nullptr;

  [[nodiscard]] bool is_varint() const { return kind < Kind::kString; }
};

struct MessageType {
  std::vector<Field> fields;  // in the order of the declaration
  std::vector<uint8_t> by_number;

  static constexpr uint8_t kNone = UINT8_MAX;
  static constexpr size_t kFieldsMax = 64;

  // Null: there is none.
  [[nodiscard]] const Field* find(uint32_t number) const {
    return number < by_number.size() && by_number[number] != kNone ? &fields[by_number[number]] : nullptr;
  }
  // By either name.
  [[nodiscard]] const Field* find(std::string_view name) const;
  [[nodiscard]] size_t index_of(const Field& field) const { return static_cast<size_t>(&field - fields.data()); }
};

class Schema {
 public:
  // With all that it has within.
  const MessageType& add(const google::protobuf::Descriptor& descriptor);

 private:
  std::unordered_map<std::string, std::unique_ptr<MessageType>> messages_;
  std::unordered_map<std::string, std::unique_ptr<EnumType>> enums_;
};

}  // namespace cairn::gateway::v3

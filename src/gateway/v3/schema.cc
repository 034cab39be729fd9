#include "gateway/v3/schema.h"

#include <algorithm>

#include <google/protobuf/descriptor.h>

#include "base/check.h"

namespace cairn::gateway::v3 {
namespace {

using google::protobuf::FieldDescriptor;

Field::Kind kind_of(const FieldDescriptor& field) {
  switch (field.type()) {
    case FieldDescriptor::TYPE_BOOL: return Field::Kind::kBool;
    case FieldDescriptor::TYPE_INT32: return Field::Kind::kInt32;
    case FieldDescriptor::TYPE_INT64: return Field::Kind::kInt64;
    case FieldDescriptor::TYPE_UINT32: return Field::Kind::kUint32;
    case FieldDescriptor::TYPE_UINT64: return Field::Kind::kUint64;
    case FieldDescriptor::TYPE_ENUM: return Field::Kind::kEnum;
    case FieldDescriptor::TYPE_STRING: return Field::Kind::kString;
    case FieldDescriptor::TYPE_BYTES: return Field::Kind::kBytes;
    case FieldDescriptor::TYPE_MESSAGE: break;
    default: CAIRN_ASSERT(false);  // no message of the API has such a field
  }
  return Field::Kind::kMessage;
}

}  // namespace

const std::string* EnumType::name_of(int32_t number) const {
  const auto found = std::ranges::find(values, number, &std::pair<std::string, int32_t>::second);
  return found == values.end() ? nullptr : &found->first;
}

const int32_t* EnumType::number_of(std::string_view name) const {
  const auto found = std::ranges::find(values, name, &std::pair<std::string, int32_t>::first);
  return found == values.end() ? nullptr : &found->second;
}

const Field* MessageType::find(std::string_view name) const {
  for (const Field& field : fields) {
    if (field.name == name || field.json_name == name) return &field;
  }
  return nullptr;
}

const MessageType& Schema::add(const google::protobuf::Descriptor& descriptor) {
  auto& place = messages_[descriptor.full_name()];
  if (place != nullptr) return *place;
  place = std::make_unique<MessageType>();
  MessageType& type = *place;  // known from here on: a transaction has transactions within
  CAIRN_ASSERT(static_cast<size_t>(descriptor.field_count()) <= MessageType::kFieldsMax);
  std::vector<Field> fields;
  for (int i = 0; i < descriptor.field_count(); ++i) {
    const FieldDescriptor& declared = *descriptor.field(i);
    CAIRN_ASSERT(!declared.is_map());
    Field field{.name = declared.name(),
                .json_name = declared.json_name(),
                .number = static_cast<uint32_t>(declared.number()),
                .kind = kind_of(declared),
                .repeated = declared.is_repeated()};
    if (const auto* const oneof = declared.containing_oneof()) {
      field.oneof = oneof->index();
      field.oneof_name = oneof->full_name();
    }
    if (const auto* const within = declared.message_type()) field.message = &add(*within);
    if (const auto* const within = declared.enum_type()) {
      auto& known = enums_[within->full_name()];
      if (known == nullptr) {
        known = std::make_unique<EnumType>();
        for (int v = 0; v < within->value_count(); ++v) {
          known->values.emplace_back(within->value(v)->name(), within->value(v)->number());
        }
      }
      field.enumeration = known.get();
    }
    if (type.by_number.size() <= field.number) type.by_number.resize(field.number + 1, MessageType::kNone);
    type.by_number[field.number] = static_cast<uint8_t>(i);
    fields.push_back(std::move(field));
  }
  type.fields = std::move(fields);
  return type;
}

}  // namespace cairn::gateway::v3

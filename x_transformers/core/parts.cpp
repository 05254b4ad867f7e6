#include "x_transformers/core/parts.h"

#include <utility>

namespace x_transformers {
namespace {

/// Who has the options of the modules that are visited, and how the whole spells what it says.
struct Holder {
  const PartOwner* owner = nullptr;  ///< null: it spells all by the rule of NamedPart
  Spelling spelling;
};

/// As `inner` spells it, and then `outer`.
Spelling chained(Spelling inner, const Spelling& outer) {
  return [inner = std::move(inner), outer](const Notice& notice) { return outer(inner(notice)); };
}

/// How `holder` spells what `part`, the child `key` of some module, says; empty: as its own.
Spelling own_spelling(const torch::nn::Module& part, const std::string& key, const Holder& holder) {
  auto own = holder.owner ? holder.owner->part_spelling(part) : Spelling();
  if (!own && dynamic_cast<const NamedPart*>(&part) != nullptr) own = below(key);
  return own;
}

void visit_within(const torch::nn::Module& module, const std::string& name, const Holder& holder,
                  const PartVisitor& visit) {
  for (const auto& child : module.named_children()) {
    auto& part = *child.value();
    const auto path = name.empty() ? child.key() : name + "." + child.key();
    const auto own = own_spelling(part, child.key(), holder);
    const auto spelling = own ? chained(own, holder.spelling) : holder.spelling;
    visit(part, path, spelling);
    const auto* owner = dynamic_cast<const PartOwner*>(&part);
    visit_within(part, path, own || owner ? Holder{owner, spelling} : holder, visit);
  }
}

}  // namespace

void each_part(torch::nn::Module& whole, const PartVisitor& visit) {
  const auto as_it_is = [](const Notice& notice) { return notice; };
  visit(whole, "", as_it_is);
  visit_within(whole, "", {dynamic_cast<const PartOwner*>(&whole), as_it_is}, visit);
}

}  // namespace x_transformers

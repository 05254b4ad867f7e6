#include "x_transformers/train/resumed_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "x_transformers/core/error.h"
#include "x_transformers/core/format.h"
#include "x_transformers/core/json.h"

namespace x_transformers {
namespace {

int64_t batch_size_of(const std::string& config) {
  const Json json = Json::parse(config, nullptr, /*allow_exceptions=*/false);
  const Json::json_pointer place("/data/batch_size");
  const bool is_given = json.is_object() && json.contains(place) && json[place].is_number_integer();
  return is_given ? json[place].get<int64_t>() : 1;
}

/// Lines of a file, and how many of them end in \r\n.
struct LineEnds {
  int64_t lines = 0, with_return = 0;
};

LineEnds line_ends(const std::string& path) {
  LineEnds ends;
  std::ifstream file(path, std::ios::binary);
  char last = 0;
  for (std::istreambuf_iterator<char> c(file), end; c != end; last = *c++) {
    if (*c != '\n') continue;
    ++ends.lines;
    ends.with_return += last == '\r';
  }
  return ends;
}

/// What is said of files whose lines alone may have changed their ends.
std::string changed_line_ends(const FileExtent& was, const FileExtent& is) {
  if (was.files != 1 || is.files != 1) return "";
  const auto ends = line_ends(is.path);
  if (ends.with_return > 0 && is.bytes - ends.with_return == was.bytes)
    return ", as many fewer as its lines now end in \\r\\n";
  if (ends.with_return == 0 && is.bytes + ends.lines == was.bytes)
    return ", as many more as it has lines, which may have ended in \\r\\n";
  return "";
}

OptionPath of_data(const char* name) { return OptionPath("data") / name; }

std::string shown(const FileExtent& file) {
  if (file.files == 1) return how_many(file.bytes, "byte");
  return fmt::format("{} in {}", how_many(file.bytes, "byte"), how_many(file.files, "file"));
}

std::vector<Text> differences(const TrainState& saved, const TrainingData& now,
                              const std::vector<ConfigChange>& changes) {
  std::vector<Text> found;
  bool explains_content = false;
  for (size_t i = 0; i < std::min(saved.data_files.size(), now.files.size()); ++i) {
    const auto &was = saved.data_files[i], &is = now.files[i];
    if (was.files == is.files && was.bytes == is.bytes) continue;
    explains_content = true;
    found.push_back(
        text("{} has {}, it had {}{}", is.path, shown(is), shown(was), changed_line_ends(was, is)));
  }
  const auto find = [&](const char* option) {
    const auto before = found.size();
    for (const auto& change : changes)
      if (change.is_of(of_data(option))) found.push_back(change.shown());
    return found.size() > before;
  };
  for (const char* option : {"path", "val_path"}) find(option);
  // What the same files can be cut and read by.
  for (const char* option : {"format", "tokenizer", "val_fraction", "dtype", "pack", "separator",
                             "task", "series", "images"})
    explains_content |= find(option);
  if (!explains_content)
    found.push_back(saved.data_files.empty()
                        ? "their content has changed"
                        : "the files are as long as before, their content is another");
  return found;
}

/// Whether a change of data.order is one between names of the same order: of tokens auto is random,
/// of examples epoch.
bool is_same_order(const ConfigChange& change, bool are_tokens) {
  const std::string usual = are_tokens ? "\"random\"" : "\"epoch\"", by_default = "\"auto\"";
  return (change.was == by_default && change.is == usual) ||
         (change.was == usual && change.is == by_default);
}

/// Says that samples come in another order from here on, where an option makes it so.
void note_other_order(const TrainingData& now, const std::vector<ConfigChange>& changes,
                      std::vector<Notice>& notes) {
  for (const char* option : {"order", "seed"}) {
    const auto* change = change_of(of_data(option), changes);
    if (change == nullptr || is_same_order(*change, now.sample_length > 1)) continue;
    // Tasks are made up by the seed, and no sample comes twice.
    const bool is_made_up = now.files.empty() && now.sample_length == 1;
    const auto* effect = is_made_up
                             ? ": the examples from here on, and those of validation, are others"
                             : ": samples come in another order from here on, so that some come "
                               "twice or not at all in this epoch";
    notes.push_back({{}, change->shown() + effect});
  }
}

bool has_other_files(const TrainState& saved, const TrainingData& now) {
  const auto is_same = [](const FileExtent& was, const FileExtent& is) {
    return was.files == is.files && was.bytes == is.bytes;  // they may have been moved
  };
  return !saved.data_files.empty() && !std::equal(saved.data_files.begin(), saved.data_files.end(),
                                                  now.files.begin(), now.files.end(), is_same);
}

}  // namespace

const ConfigChange* change_of(const OptionPath& option, const std::vector<ConfigChange>& changes) {
  const auto found = std::find_if(changes.begin(), changes.end(),
                                  [&](const auto& change) { return change.is_of(option); });
  return found == changes.end() ? nullptr : &*found;
}

bool validates_on_other_data(const TrainState& saved, const TrainingData& now,
                             const ResumedData& resumed) {
  const bool is_known = !saved.data_fingerprint.empty() && !now.fingerprint.empty();
  const bool is_longer = saved.sample_length > 0 && saved.sample_length != now.sample_length;
  const auto is_changed = [&](const char* option) {
    return change_of(of_data(option), resumed.changes) != nullptr;
  };
  const bool is_made_up = now.files.empty() && is_changed("seed");
  return (is_known && saved.data_fingerprint != now.fingerprint) || is_longer || is_made_up ||
         has_other_files(saved, now) || is_changed("val_fraction") || is_changed("val_batches");
}

int64_t resumed_sample(const TrainState& saved, const TrainingData& now, const ResumedData& resumed,
                       std::vector<Notice>& notes) {
  const bool is_known = !saved.data_fingerprint.empty() && !now.fingerprint.empty();
  if (is_known && saved.data_fingerprint != now.fingerprint) {
    const auto found = joined(differences(saved, now, resumed.changes), "; ");
    if (!resumed.data_changed) {
      Notice notice{at(resumed.folder + ":"), text("other data than those of the run: {}", found)};
      notice.hint = text(
          "{} goes on with them from their start, with weights and optimizer as they are, and "
          "{}={} starts a new run from the weights",
          option("data_changed"), option(OptionPath("train") / "init_from"), resumed.folder);
      throw InputError(std::move(notice));
    }
    notes.push_back({{}, text("going on with other data, from their start: {}", found)});
    return 0;
  }
  if (resumed.data_changed)
    notes.push_back({at("data_changed"),
                     "the data are those of the run, which goes on with them where it was"});
  note_other_order(now, resumed.changes, notes);
  const int64_t taken = saved.data_position
                            ? *saved.data_position * batch_size_of(resumed.saved_config)
                            : saved.samples;
  const auto was = saved.sample_length, is = now.sample_length;
  if (was == is || was < 1 || is < 1) return taken;
  notes.push_back(
      {{},
       text("sequences of {} tokens (they had {}) are drawn in another order: training goes on "
            "after as many tokens as before, but some of the text comes twice or not at all in "
            "this epoch",
            is, was)});
  return taken * was / is;
}

}  // namespace x_transformers

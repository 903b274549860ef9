// SPDX-License-Identifier: Apache-2.0
// What the training loop saves, and which checkpoint it names when something goes wrong.
#include <chrono>
#include <optional>

#include "comm/world.h"
#include "core/error.h"
#include "train/trainer.h"

namespace tenon {

namespace fs = std::filesystem;

bool Trainer::save() {
  if (state_.step == 0 || saved_step_ == state_.step) return false;
  if (const std::string name = p_.optimizer.bad_weight(); !name.empty()) {
    numeric_failure(state_.step - 1, fmt::format("the weights of {} are not finite", name));
  }
  p_.group.note_phase(fmt::format("saving step {}", state_.step));
  state_.identity = p_.identity;
  bool saved = false;
  if (is_rank0()) {
    const std::optional<double> left = seconds_left();
    saved = !left || save_seconds_ <= *left;
    if (saved) {
      write_checkpoint();
    } else {
      p_.console.warning(fmt::format(
          "no checkpoint of step {}: the last one took {:.1f} s, and the launcher leaves {:.1f} s",
          state_.step, save_seconds_, *left));
    }
  }
  p_.group.barrier();
  saved_step_ = state_.step;
  return saved;
}

void Trainer::write_checkpoint() {
  // A full model's weights are in the state already; an adapter is small and of use at once.
  const auto write_result = [&](const fs::path& target) {
    if (p_.result_name == "adapter") p_.write_weights(target / p_.result_name);
  };
  const auto begin = std::chrono::steady_clock::now();
  if (p_.metrics != nullptr) p_.metrics->sync();
  write([&] {
    save_checkpoint(folder() / "checkpoints", state_, p_.optimizer, write_result, p_.options.keep,
                    [this](const std::string& what) { warn_of_leftover(what); });
  });
  save_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  stands(shown(checkpoint_of(state_.step)));
}

fs::path Trainer::checkpoint_of(int64_t step) const {
  return folder() / "checkpoints" / fmt::format("step-{}", step);
}

void Trainer::stands(const std::string& checkpoint) {
  const std::optional<double> grace = launcher_grace();
  if (!grace || !is_rank0()) return;
  set_last_words(fmt::format(
      "tenon: warning: mpirun kills this job {} s after its SIGTERM; checkpoint that stands: {}. "
      "To stop with a new one, send mpirun SIGUSR1, or start it with --mca "
      "odls_base_sigkill_timeout 60\n",
      *grace, checkpoint));
}

void Trainer::write(const std::function<void()>& action) const {
  const auto fails = [](const std::function<void()>& act) -> std::optional<Error> {
    try {
      act();
    } catch (const Error& e) {
      return e;
    }
    return std::nullopt;
  };
  std::optional<Error> error = fails(action);
  if (!error) return;
  // A folder that is gone is the reason of whatever else fails.
  if (p_.check_folder) error = fails(p_.check_folder).value_or(*error);
  fail(error->code(), "{}; {}", error->what(), last_good_text(folder()));
}

void Trainer::warn_of_leftover(const std::string& what) {
  if (!what.empty() && !warned_of_leftover_) p_.console.warning(what);
  warned_of_leftover_ |= !what.empty();
}

void Trainer::numeric_failure(int64_t step, const std::string& what) {
  fail(Exit::kNumeric, "step {}: {}; {}", step + 1, what, last_good_text(folder()));
}

}  // namespace tenon

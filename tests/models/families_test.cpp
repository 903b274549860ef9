// SPDX-License-Identifier: Apache-2.0
// OPT, Llama and Mistral beside what `verify` shows (tests/reference/cases): what config.json may and
// may not say, rotary tables against the formulas of the papers, a cache that changes nothing, and
// adapters' dropout.
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>
#include <set>

#include "models/adapter.h"
#include "models/family_parts.h"
#include "models/generate.h"
#include "models/rope.h"
#include "tests/models/tiny_model.h"

namespace tenon::test {
namespace {

Json llama_config(const Json& changes = Json::object()) {
  Json config = {
      {"model_type", "llama"},    {"vocab_size", 37},       {"hidden_size", 40},
      {"intermediate_size", 56},  {"num_hidden_layers", 2}, {"num_attention_heads", 2},
      {"num_key_value_heads", 1}, {"head_dim", 24},         {"max_position_embeddings", 64},
      {"initializer_range", 0.3}};
  config.update(changes);
  return config;
}

Json opt_config(const Json& changes = Json::object()) {
  Json config = {{"model_type", "opt"},
                 {"vocab_size", 37},
                 {"hidden_size", 24},
                 {"ffn_dim", 56},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 3},
                 {"word_embed_proj_dim", 16},
                 {"max_position_embeddings", 64},
                 {"init_std", 0.3}};
  config.update(changes);
  return config;
}

std::unique_ptr<Model> drawn(const Json& config) {
  std::unique_ptr<Model> model = build_model(config, "config.json");
  draw_weights(*model, 5);
  return model;
}

void check_refused(const Json& config, const std::string& field) {
  CAPTURE(field);
  CHECK_THROWS_WITH(build_model(config, "config.json"), Catch::Contains("\"" + field + "\""));
}

Rope rope_of(const Json& fields, int64_t head_size = 16, int64_t positions = 64) {
  return Rope(JsonObject(fields, "config.json"), head_size, positions);
}

// The angles of position 1, which are the frequencies.
std::vector<double> frequencies(const Rope& rope, int64_t longest = 2) {
  const RopeTables tables = rope.tables(longest, Device::kCPU);
  std::vector<double> angles;
  const int64_t pairs = tables.cosines.dim(1);
  for (int64_t i = 0; i < pairs; ++i) {
    angles.push_back(
        std::atan2(tables.sines.data<float>()[pairs + i], tables.cosines.data<float>()[pairs + i]));
  }
  return angles;
}

}  // namespace

TEST_CASE("what changes the arithmetic and is not computed is refused by name", "[models]") {
  check_refused(llama_config({{"rope_scaling", {{"type", "longrope"}, {"factor", 2}}}}),
                "rope_scaling.type");
  check_refused(llama_config({{"rope_parameters", {{"rope_type", "linear"}}}}),
                "rope_parameters.factor");
  check_refused(llama_config({{"rope_parameters",
                               {{"rope_type", "llama3"},
                                {"factor", 8},
                                {"low_freq_factor", 4},
                                {"high_freq_factor", 4}}}}),
                "rope_parameters.high_freq_factor");
  check_refused(llama_config({{"rope_parameters", {{"full_attention", Json::object()}}}}),
                "rope_parameters");
  check_refused(llama_config({{"partial_rotary_factor", 0.5}}), "partial_rotary_factor");
  check_refused(llama_config({{"head_dim", 15}}), "head_dim");
  check_refused(llama_config({{"num_key_value_heads", 3}}), "num_key_value_heads");
  check_refused(llama_config({{"head_dim", nullptr}, {"num_attention_heads", 3}}), "hidden_size");
  check_refused(llama_config({{"hidden_act", "xielu"}}), "hidden_act");
  check_refused(opt_config({{"layer_norm_elementwise_affine", false}}),
                "layer_norm_elementwise_affine");
  check_refused(opt_config({{"layerdrop", 0.1}}), "layerdrop");
  check_refused(opt_config({{"num_attention_heads", 5}}), "hidden_size");
}

TEST_CASE("frequencies are those of transformers", "[models]") {
  // ROPE_INIT_FUNCTIONS of transformers 5.24, heads of 16 elements.
  const Json llama3 = {{"rope_type", "llama3"},   {"rope_theta", 500},
                       {"factor", 8.0},           {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  const double of_llama3[] = {1.0,
                              0.4598632752895355,
                              0.09761662781238556,
                              0.01215615589171648,
                              0.005590170156210661,
                              0.0025707141030579805,
                              0.0011821769876405597,
                              0.0005436398205347359};
  const Json yarn = {{"rope_type", "yarn"},
                     {"rope_theta", 500},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 64}};
  const double of_yarn[] = {1.0,
                            0.34489744901657104,
                            0.1057371199131012,
                            0.02431231178343296,
                            0.011180340312421322,
                            0.005141428206115961,
                            0.0023643539752811193,
                            0.0010872796410694718};
  const auto check = [](const Json& scaling, const double(&want)[8], double factor) {
    const Rope rope = rope_of({{"rope_parameters", scaling}}, 16, 256);
    const std::vector<double> got = frequencies(rope);
    REQUIRE(got.size() == 8);
    // Each is the angle of a cosine and a sine in fp32.
    for (size_t i = 0; i < 8; ++i) CHECK(std::fabs(got[i] - want[i]) <= 1e-6 * want[i] + 1e-7);
    const RopeTables tables = rope.tables(2, Device::kCPU);
    CHECK(static_cast<double>(tables.cosines.data<float>()[0]) == Approx(factor).epsilon(1e-6));
  };
  check(llama3, of_llama3, 1);
  check(yarn, of_yarn, 1.138629436111989);
}

TEST_CASE("a sliding window is how far a Mistral may read", "[models]") {
  const auto positions = [](const Json& changes) {
    Json config = llama_config(changes);
    config["model_type"] = "mistral";
    return build_model(config, "config.json")->max_positions();
  };
  CHECK(positions({{"sliding_window", nullptr}}) == 64);
  CHECK(positions({{"sliding_window", 48}}) == 48);
  CHECK(positions({{"max_position_embeddings", 8192}}) == 4096);
  const auto text = [](const Json& changes) {
    Json config = llama_config(changes);
    config["model_type"] = "mistral";
    return build_model(config, "config.json")->positions_text();
  };
  CHECK(text({{"sliding_window", 48}}) ==
        "48 positions (config.json: \"sliding_window\" is 48, and longer texts are not computed)");
  CHECK(text({{"sliding_window", 64}}) == "64 positions");
}

TEST_CASE("an empty object in config.json says nothing", "[models]") {
  const Json linear = {{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 500}};
  const auto same = [](const Json& one, const Json& other) {
    return frequencies(rope_of(one)) == frequencies(rope_of(other));
  };
  CHECK(same({{"rope_scaling", Json::object()}, {"rope_parameters", linear}},
             {{"rope_parameters", linear}}));
  CHECK(same({{"rope_scaling", linear}, {"rope_parameters", Json::object()}},
             {{"rope_scaling", linear}}));
  CHECK(same({{"rope_scaling", Json::object()}, {"rope_theta", 500}}, {{"rope_theta", 500}}));
  CHECK_FALSE(same({{"rope_parameters", linear}}, {{"rope_theta", 500}}));
  CHECK_NOTHROW(
      build_model(llama_config({{"quantization_config", Json::object()}}), "config.json"));
  check_refused(llama_config({{"quantization_config", {{"quant_method", "gptq"}}}}),
                "quantization_config.quant_method");
}

TEST_CASE("a head is tied where config.json says nothing as the family has it", "[models]") {
  CHECK_FALSE(has_tied_head(*drawn(llama_config())));
  CHECK(has_tied_head(*drawn(llama_config({{"tie_word_embeddings", true}}))));
  CHECK(has_tied_head(*drawn(opt_config())));
  CHECK_FALSE(has_tied_head(*drawn(opt_config({{"tie_word_embeddings", false}}))));
}

TEST_CASE("the original positions of the model come before those of its scaling", "[models]") {
  const std::string type = GENERATE("llama3", "yarn");
  const auto with = [&](const Json& inside, const Json& outside) {
    Json scaling = {
        {"rope_type", type}, {"factor", 8.0}, {"low_freq_factor", 1}, {"high_freq_factor", 4}};
    if (!inside.is_null()) scaling["original_max_position_embeddings"] = inside;
    Json config = {{"rope_theta", 500}, {"rope_scaling", scaling}};
    if (!outside.is_null()) config["original_max_position_embeddings"] = outside;
    return frequencies(rope_of(config, 16, 4096));
  };
  const std::vector<double> of_24 = with(24, nullptr);
  CHECK(with(nullptr, 24) == of_24);
  CHECK(with(400, 24) == of_24);
  CHECK(with(24, 400) != of_24);
  CHECK(with(24, 400) == with(400, nullptr));
  CHECK(with(nullptr, nullptr) == with(4096, nullptr));
  CHECK(with(nullptr, nullptr) != of_24);
}

TEST_CASE("rotary frequencies by type", "[models]") {
  std::vector<double> plain;
  for (int i = 0; i < 8; ++i) plain.push_back(std::pow(500.0, -2.0 * i / 16));
  const auto check = [&](const Rope& rope, const std::function<double(double)>& f) {
    const std::vector<double> got = frequencies(rope);
    REQUIRE(got.size() == plain.size());
    // One rounding of the frequency, one each of sine and cosine.
    for (size_t i = 0; i < plain.size(); ++i)
      CHECK(std::fabs(got[i] - f(plain[i])) <= 3 * 0x1p-24 * std::max(f(plain[i]), 0.1));
  };
  check(rope_of({{"rope_theta", 500}}), [](double f) { return f; });
  check(rope_of({{"rope_theta", 10}, {"rope_parameters", {{"rope_theta", 500}}}}),
        [](double f) { return f; });
  check(rope_of({{"rope_theta", 500}, {"rope_scaling", {{"type", "linear"}, {"factor", 4}}}}),
        [](double f) { return f / 4; });
  check(rope_of({{"rope_parameters",
                  {{"rope_type", "llama3"},
                   {"rope_theta", 500},
                   {"factor", 8},
                   {"low_freq_factor", 1},
                   {"high_freq_factor", 4},
                   {"original_max_position_embeddings", 24}}}}),
        [](double f) {
          const double wave = 2 * std::numbers::pi / f;
          if (wave < 24.0 / 4) return f;
          if (wave > 24.0 / 1) return f / 8;
          const double smooth = (24 / wave - 1) / 3;
          return (1 - smooth) * f / 8 + smooth * f;
        });
  const Rope dynamic =
      rope_of({{"rope_theta", 500}, {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}}});
  check(dynamic, [](double f) { return f; });
  const std::vector<double> longer = frequencies(dynamic, 96);  // 1.5 times the trained positions
  const double theta = 500 * std::pow(2 * 1.5 - 1, 16.0 / 14);
  CHECK(longer[7] == Approx(std::pow(theta, -14.0 / 16)).epsilon(1e-5));
  CHECK(dynamic.max_positions() == 128);
  CHECK(frequencies(dynamic) != longer);  // and back again
}

TEST_CASE("families: with a cache the next logits are those of the whole text", "[models]") {
  const Json config =
      GENERATE(llama_config(), llama_config({{"tie_word_embeddings", true}, {"mlp_bias", true}}),
               opt_config(), opt_config({{"do_layer_norm_before", false}}));
  const std::unique_ptr<Model> model = drawn(config);
  std::vector<int32_t> ids = {3, 17, 1, 30, 30, 2};
  const std::vector<int32_t> prompt = ids;
  generate(*model, ids, 9, {}, {}, DType::kF32, 0);
  REQUIRE(ids.size() == prompt.size() + 9);
  std::vector<int32_t> again = prompt;
  while (again.size() < ids.size()) {
    const auto length = static_cast<int64_t>(again.size());
    Context context;
    context.ids = integers({1, length}, again);
    std::vector<int32_t> positions(again.size());
    std::iota(positions.begin(), positions.end(), 0);
    context.positions = integers({1, length}, positions);
    const Tensor hidden = forward(*model, context);
    const Tensor last = hidden.view({length, hidden.dim(2)}).rows(length - 1, length);
    again.push_back(choose_token(logits(last, model->head().value), {}, 0, 0));
  }
  CHECK(again == ids);
}

TEST_CASE("families: each adapter's dropout draws from a stream of its own", "[models]") {
  const Json config = GENERATE(llama_config(), opt_config());
  const std::unique_ptr<Model> model = drawn(config);
  attach_lora(*model, {.rank = 2, .alpha = 4, .dropout = 0.4, .targets = {"all-linear"}}, 3);
  model->visit_parameters([](const std::string& path, Parameter& p) {
    if (path.ends_with("lora_B.weight"))
      draw_normal(p.value.data<float>(), p.value.numel(), {.seed = 9}, 0.2);
  });
  Context context;
  context.ids = integers({1, 4}, {5, 6, 7, 8});
  context.positions = integers({1, 4}, {0, 1, 2, 3});
  context.training = true;
  const auto sum = [&](const Context& c) {
    const Tensor x = forward(*model, c);
    return std::accumulate(x.data<float>(), x.data<float>() + x.numel(), 0.0);
  };
  const double once = sum(context);
  CHECK(sum(context) == once);
  context.step = 1;
  CHECK(sum(context) != once);
  context.step = 0;
  context.sequence0 = 1;
  CHECK(sum(context) != once);
}

TEST_CASE("every dropout site of every block has a stream of its own", "[models]") {
  Context context;
  context.ids = integers({1, 1}, {0});
  context.training = true;
  std::set<uint32_t> purposes;
  for (int64_t block = 0; block < 200; ++block) {
    for (uint32_t site = 0; site < 16; ++site) {
      const uint32_t purpose = dropout_at(context, block, site, 0.5f, 8).random.purpose;
      CHECK(purposes.insert(purpose).second);
    }
  }
  CHECK(*purposes.begin() > static_cast<uint32_t>(Purpose::kSample));
}

namespace {

// Block 1 gets what block 0 has.
void make_blocks_alike(Model& model) {
  std::map<std::string, Tensor> first;
  model.visit_parameters([&](const std::string& path, Parameter& p) {
    if (const size_t at = path.find(".0."); at != path.npos)
      first[path.substr(0, at) + ".1." + path.substr(at + 3)] = p.value;
  });
  model.visit_parameters([&](const std::string& path, Parameter& p) {
    if (const auto found = first.find(path); found != first.end())
      std::copy_n(found->second.data<float>(), p.value.numel(), p.value.data<float>());
  });
}

// What two blocks of the same weights make of the same x, in training.
std::pair<std::vector<float>, std::vector<float>> of_both_blocks(Model& model, bool training) {
  TinyBatch batch = tiny_batch(2, 7, 6, 37);
  batch.context.training = training;
  batch.context.model_dropout = true;
  batch.context.seed = 3;
  const Tensor x = filled({2, 7, model.embed(batch.context).dim(2)}, 4);
  return {values(model.block(0, x, batch.context)), values(model.block(1, x, batch.context))};
}

void check_blocks_drop_apart(Model& model) {
  make_blocks_alike(model);
  const auto [first, second] = of_both_blocks(model, false);
  CHECK(first == second);
  const auto [first_dropped, second_dropped] = of_both_blocks(model, true);
  CHECK(first_dropped != first);
  CHECK(first_dropped != second_dropped);
}

}  // namespace

TEST_CASE("families: blocks of the same weights drop different elements", "[models]") {
  const Json gpt2 = {{"model_type", "gpt2"}, {"vocab_size", 37}, {"n_positions", 16},
                     {"n_embd", 24},         {"n_layer", 2},     {"n_head", 3},
                     {"embd_pdrop", 0},      {"attn_pdrop", 0},  {"resid_pdrop", 0}};
  SECTION("each of the adapters") {
    const Json configs[] = {gpt2, llama_config(), opt_config({{"dropout", 0}})};
    for (const Json& config : configs) {
      std::vector<std::string> names;
      drawn(config)->visit_linears([&](const std::string& path, Linear&) {
        if (const size_t at = path.find(".0."); at != path.npos)
          names.push_back(path.substr(at + 3));
      });
      REQUIRE(names.size() >= 4);
      for (const std::string& name : names) {
        CAPTURE(config.at("model_type"), name);
        const std::unique_ptr<Model> model = drawn(config);
        give_lora(*model, {.rank = 3, .alpha = 30, .dropout = 0.5, .targets = {name}});
        check_blocks_drop_apart(*model);
      }
    }
  }
  SECTION("each of the model's own") {
    for (const char* field : {"attn_pdrop", "resid_pdrop"}) {
      CAPTURE(field);
      Json config = gpt2;
      config[field] = 0.5;
      check_blocks_drop_apart(*drawn(config));
    }
    for (const char* field : {"dropout", "attention_dropout"}) {
      CAPTURE(field);
      Json config = opt_config({{"dropout", 0}});
      config[field] = 0.5;
      check_blocks_drop_apart(*drawn(config));
    }
    check_blocks_drop_apart(*drawn(llama_config({{"attention_dropout", 0.5}})));
  }
}

}  // namespace tenon::test

"""Bytes between devices, read from modules written as the compilers write them."""

from kdfas_jax.performance import collectives

# A loop of 12 whose body sums f32[8], inside which another of 3 gathers; outside, one gather cut into two parts.
LOOPS = """HloModule jit_train_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  ROOT %sum = f32[] add(%a, %b)
}

%inner_body.2 (p: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %all-gather.7 = bf16[4,8]{1,0:T(8,128)(2,1)} all-gather(%x), channel_id=7, replica_groups=[4,4]<=[16], dimensions={0}
}

%inner_cond.3 (p: (s32[], bf16[4,8])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.1), direction=LT
}

%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %all-reduce.1 = f32[8]{0} all-reduce(%y), channel_id=1, to_apply=%add
  %while.2 = (s32[], bf16[4,8]) while(%t), condition=%inner_cond.3, body=%inner_body.2
}

%cond (p: (s32[], f32[8])) -> pred[] {
  %constant.2 = s32[] constant(12)
  ROOT %lt.2 = pred[] compare(%i, %constant.2), direction=LT
}

%part.1 (p: f32[2]) -> f32[4] {
  %all-gather.8 = f32[4]{0} all-gather(%p), channel_id=9, dimensions={0}
}

%part.2 (p: f32[2]) -> f32[4] {
  %all-gather.9 = f32[4]{0} all-gather(%p), channel_id=9, dimensions={0}
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %while.1 = (s32[], f32[8]) while(%start), condition=%cond, body=%body, metadata={op_name="jit(train_step)/while"}
  %fusion.1 = f32[4]{0} fusion(%p), kind=kCustom, calls=%part.1
  %fusion.2 = f32[4]{0} fusion(%p), kind=kCustom, calls=%part.2
  ROOT %all-reduce.3 = (f32[8]{0}, f32[2]{0}) all-reduce(%z, %w), channel_id=3, to_apply=%add
}
"""


def test_loops_are_counted_as_often_as_they_run_and_parts_once():
    assert collectives.received(LOOPS) == {"all-reduce": 12 * 32 + 40, "all-gather": 12 * 3 * 64 + 16}


def test_of_an_asynchronous_pair_the_result_counts_once():
    text = """ENTRY %main (p: f32[2]) -> f32[8] {
  %start = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), channel_id=1, dimensions={0}
  %done = f32[8]{0} all-gather-done(%start)
  %sum = f32[8]{0} all-reduce-start(%done), channel_id=2, to_apply=%add
  %moved = (f32[8]{0}, f32[8]{0}, u32[], u32[]) collective-permute-start(%sum), channel_id=3
}
"""
    assert collectives.received(text) == {"all-gather": 32, "all-reduce": 32, "collective-permute": 32}


def test_collectives_without_a_channel_are_each_their_own():
    line = "  %sum{} = f32[8]{{0}} all-reduce(%p), to_apply=%add\n"
    text = "ENTRY %main (p: f32[8]) -> f32[8] {\n" + line.format(1) + line.format(2) + "}\n"
    assert collectives.received(text) == {"all-reduce": 64}

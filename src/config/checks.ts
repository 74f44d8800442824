import type { Config } from './schema.js';

/** Rules that tie several keys together, checked before any data is read or device asked for. Browser-safe. */

/** A rule that a configuration breaks. */
export interface Contradiction {
  /** The keys involved, the one to change first. */
  readonly keys: readonly [string, ...string[]];
  /** Expected and got. */
  readonly why: string;
  readonly fix: string;
}

function divisors(value: number): readonly number[] {
  return Array.from({ length: value }, (_, i) => i + 1).filter((i) => value % i === 0);
}

/** The divisor of `value` nearest to what was asked for. */
function nearestDivisor(value: number, wanted: number): number {
  return divisors(value).reduce((best, d) => (Math.abs(d - wanted) < Math.abs(best - wanted) ? d : best));
}

function modelRules({ model, views }: Config): Contradiction[] {
  const found: Contradiction[] = [];
  const { width, heads, patch_size: patch } = model;
  if (width % heads !== 0) {
    found.push({
      keys: ['model.heads', 'model.width'],
      why: `expected a divisor of model.width ${width}, got ${heads}`,
      fix: `set model.heads to ${nearestDivisor(width, heads)}`,
    });
  }
  if (Math.round(width * model.mlp_ratio) < 1) {
    const why = `expected at least one hidden feature of an MLP, got ${model.mlp_ratio} of model.width ${width}`;
    const fix = `set model.mlp_ratio to ${Math.ceil(1000 / width) / 1000} or more`;
    found.push({ keys: ['model.mlp_ratio', 'model.width'], why, fix });
  }
  const sides: [string, number][] = [['model.image_size', model.image_size]];
  if (views.local_count > 0) sides.push(['model.local_size', model.local_size]);
  for (const [key, side] of sides) {
    if (side % patch === 0) continue;
    const nearest = Math.max(1, Math.round(side / patch)) * patch;
    found.push({
      keys: [key, 'model.patch_size'],
      why: `expected a multiple of model.patch_size ${patch}, got ${side}`,
      fix: `set ${key} to ${nearest} or model.patch_size to ${nearestDivisor(side, patch)}`,
    });
  }
  return found;
}

function maskRules({ mask, model, loss }: Config): Contradiction[] {
  const { ratio, ratio_var: spread } = mask;
  if (ratio + spread >= 1 || ratio - spread < 0) {
    const why = `expected mask.ratio -+ mask.ratio_var within [0, 1), got ${ratio} -+ ${spread}`;
    const room = Math.min(ratio, 1 - ratio);
    return [
      { keys: ['mask.ratio_var', 'mask.ratio'], why, fix: `set mask.ratio_var below ${Number(room.toFixed(4))}` },
    ];
  }
  const patches = Math.floor(model.image_size / model.patch_size) ** 2;
  if (loss.patch_weight > 0 && ratio > 0 && Math.floor((ratio + spread) * patches) < 1) {
    const why = `${ratio} of ${patches} patches masks none, so that the patch loss would always be 0`;
    const least = Math.ceil(1000 / patches) / 1000;
    // All patches cannot be masked: a view of one patch has no patch loss.
    const mask = least < 1 ? `mask.ratio to ${least} or more, or ` : '';
    const keys = ['mask.ratio', 'model.image_size', 'model.patch_size'] as const;
    return [{ keys, why, fix: `set ${mask}loss.patch_weight to 0` }];
  }
  return [];
}

function memoryRules({ sop }: Config): Contradiction[] {
  return (['cls', 'patch'] as const).flatMap((name) => {
    const { memory, anchors, neighbours } = sop[name];
    const key = (part: string) => `sop.${name}.${part}`;
    // Two candidates are drawn for each low-energy anchor; a memory without two neighbours has no energy to go by.
    const lowEnergy = sop.anchor_selection === 'low-energy' && neighbours >= 2;
    const drawn = lowEnergy ? 2 * anchors : anchors;
    if (drawn > memory) {
      const most = lowEnergy ? Math.floor(memory / 2) : memory;
      const why = `expected at most ${most} anchors of sop.${name}.memory ${memory} rows, got ${anchors}`;
      return [{ keys: [key('anchors'), key('memory')], why, fix: `set ${key('anchors')} to ${most} or less` }];
    }
    const rows = sop.search === 'all' ? memory - 1 : memory - drawn;
    if (neighbours > rows) {
      const kind = sop.search === 'all' ? 'other rows' : 'rows that are no anchor';
      const why = `expected at most the ${rows} ${kind} of sop.${name}.memory ${memory}, got ${neighbours}`;
      return [{ keys: [key('neighbours'), key('memory')], why, fix: `set ${key('neighbours')} to ${rows} or less` }];
    }
    return [];
  });
}

function sopRules({ sop, loss }: Config): Contradiction[] {
  const found: Contradiction[] = [];
  if (sop.anchor_selection === 'low-energy' && sop.cls.neighbours < 2) {
    const why = `low-energy anchors are chosen by the spread of at least 2 neighbour scores, got ${sop.cls.neighbours}`;
    found.push({
      keys: ['sop.cls.neighbours', 'sop.anchor_selection'],
      why,
      fix: 'set sop.cls.neighbours to 2 or more',
    });
  }
  if (loss.cls_weight === 0 && loss.patch_weight === 0) {
    const why = 'loss.cls_weight and loss.patch_weight are both 0, so that nothing would be learned';
    found.push({ keys: ['loss.patch_weight', 'loss.cls_weight'], why, fix: 'set one of them above 0' });
  }
  return found;
}

function scheduleRules({ optim, train, sop }: Config): Contradiction[] {
  const found: Contradiction[] = [];
  const { epochs, minutes } = train;
  if (minutes !== null) {
    // How many epochs the time holds is not known before it is over.
    const why = (key: string) => `train.minutes ${minutes} cannot warm up in epochs, got ${key}`;
    if (optim.warmup === null) {
      found.push({
        keys: ['optim.warmup_epochs', 'train.minutes'],
        why: why(`optim.warmup_epochs ${optim.warmup_epochs}`),
        fix: 'give the warm-up as a share of the run, --set optim.warmup=0.1',
      });
    }
    if (sop.teacher_temp_warmup_epochs > 0) {
      found.push({
        keys: ['sop.teacher_temp_warmup_epochs', 'train.minutes'],
        why: why(`sop.teacher_temp_warmup_epochs ${sop.teacher_temp_warmup_epochs}`),
        fix: 'set sop.teacher_temp_warmup_epochs to 0',
      });
    }
  }
  if (epochs !== null && optim.warmup_epochs !== null && optim.warmup_epochs >= epochs) {
    const why = `expected less than train.epochs ${epochs}, got ${optim.warmup_epochs}`;
    found.push({
      keys: ['optim.warmup_epochs', 'train.epochs'],
      why,
      fix: 'give the warm-up as a share of the run, --set optim.warmup=0.1',
    });
  }
  if (epochs !== null && sop.teacher_temp_warmup_epochs > epochs) {
    const why = `expected at most train.epochs ${epochs}, got ${sop.teacher_temp_warmup_epochs}`;
    found.push({
      keys: ['sop.teacher_temp_warmup_epochs', 'train.epochs'],
      why,
      fix: `set sop.teacher_temp_warmup_epochs to ${epochs} or less`,
    });
  }
  return found;
}

function dataRules({ data }: Config): Contradiction[] {
  const { mean, std } = data;
  if ((mean === null) === (std === null) && mean?.length === std?.length) return [];
  const text = (list: readonly number[] | null) => (list === null ? 'none' : `${list.length}`);
  const why = `expected as many numbers as data.mean has, ${text(mean)}, got ${text(std)}`;
  return [{ keys: ['data.std', 'data.mean'], why, fix: 'give both with one number for grey or three for colour' }];
}

/**
 * Everything in which a configuration contradicts itself.
 *
 * @returns the broken rules, those of the model first; empty where all agrees
 */
export function contradictions(config: Config): readonly Contradiction[] {
  const rules = [modelRules, maskRules, memoryRules, sopRules, scheduleRules, dataRules];
  return rules.flatMap((rule) => rule(config));
}

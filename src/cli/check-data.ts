import { checkData } from '../data/node/check.js';
import { ExitCode } from '../errors.js';
import { counted } from '../numbers.js';
import type { Outcome } from './command.js';
import { oneLine } from './one-line.js';
import type { Printer } from './printer.js';
import { CountProgress } from './progress.js';
import { table } from './table.js';

export interface CheckDataOptions {
  readonly data: string;
}

/** No one reads a thousand lines of the same complaint; `--json` has them all. */
const shown = 20;

/**
 * Reads every file of a data set and reports what is in it. Files that cannot be decoded end it with 65, after all of
 * them have been found.
 */
export async function checkDataCommand({ data }: CheckDataOptions, printer: Printer): Promise<Outcome> {
  const progress = new CountProgress('images', printer);
  const report = await checkData(data, (done, total) => progress.update(done, total)).finally(() => progress.stop());
  const sizes = [...report.sizes];
  printer.line(`${oneLine(data)}: ${counted(report.images, 'readable image')}`);
  if (report.classes) {
    printer.line(counted(report.classes.size, 'class', 'classes'));
    const classes = [...report.classes].map(([name, count]) => [oneLine(name), count]);
    printer.lines(table([], classes));
  } else {
    printer.line('no classes');
  }
  printer.line(sizes.length === 1 ? `all ${sizes[0]![0]} pixels` : `${sizes.length} sizes, the most frequent:`);
  if (sizes.length > 1) printer.lines(table([], sizes.slice(0, 10)));
  for (const note of report.notes) printer.line(oneLine(note));
  for (const { file, reason } of report.bad.slice(0, shown))
    printer.line(oneLine(`cannot be decoded: ${file}: ${reason}`));
  const { bad } = report;
  if (bad.length > shown) printer.line(`... and ${bad.length - shown} more`);
  if (bad.length === 0) return { result: report };
  const total = report.images + bad.length;
  const message = `bad images (${oneLine(bad[0]!.file)}): ${bad.length} of ${total} cannot be decoded, this first: ${oneLine(bad[0]!.reason).replaceAll(';', ',')}; replace or remove them`;
  return { result: report, failure: { exitCode: ExitCode.data, message } };
}

import { compiled, die, underVulkan } from '../bin/launch.js';

/**
 * Runs a program of this folder where Vulkan can be loaded; what it throws becomes one line and an exit code.
 * @param {string} name as npm knows it
 * @param {() => Promise<void>} body
 */
export async function program(name, body) {
  await underVulkan(async () => {
    const { describeFailure } = await import(compiled('src/cli/failure.js'));
    await body().catch((error) => {
      const { exitCode, message } = describeFailure(error, name);
      die(exitCode, message);
    });
  });
}

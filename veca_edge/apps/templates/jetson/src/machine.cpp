#include "machine.h"

#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <string>

namespace veca {

double hottest_celsius() {
  double hottest = std::numeric_limits<double>::quiet_NaN();
  for (int zone = 0; zone < 32; ++zone) {
    const std::string folder = "/sys/class/thermal/thermal_zone" + std::to_string(zone);
    std::string type;
    std::ifstream(folder + "/type") >> type;
    // A constant on many boards.
    if (type.find("pmic") != std::string::npos || type.find("PMIC") != std::string::npos) continue;
    std::ifstream file(folder + "/temp");
    double thousandths = 0;
    if (file >> thousandths) hottest = std::fmax(hottest, thousandths / 1000);
  }
  return hottest;
}

double resident_mib() {
  std::ifstream file("/proc/self/statm");
  long total = 0, resident = 0;  // pages
  file >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

}  // namespace veca
